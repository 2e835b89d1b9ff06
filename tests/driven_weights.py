"""A plain vector stepped by an optimizer under any gradient, with the eight products of each step.

Written out from `torch.optim`, one vector, float64; it knows no law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from spherical_motion.vocabulary import Gram, HyperParameters

Gradient = Callable[[int, np.ndarray], np.ndarray]
Settings = Sequence[tuple[float, float, float]]


def leaning(seed: int = 0, radial: float = 0.0, correlated: float = 0.5) -> Gradient:
    """Random gradients, correlated in time, entries of many sizes, with a part along w."""
    rng = np.random.default_rng(seed)
    last = 0.0

    def gradient(step: int, w: np.ndarray) -> np.ndarray:
        nonlocal last
        scale = np.linspace(0.2, 2.0, w.size)
        last = correlated * last + rng.standard_normal(w.size) * scale
        return last / w.size**0.5 + radial * w

    return gradient


def products(
    hp: HyperParameters,
    settings: Settings,
    gradient: Gradient,
    *,
    dimension: int = 30,
    norm0: float = 3.0,
    seed: int = 1,
) -> Gram:
    """Step through `settings` (lr, weight_decay, momentum) and record the products (steps, 8)."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    rows = []
    buffer, second, metric = None, np.zeros(dimension), np.zeros(dimension)
    for t, (lr, weight_decay, momentum) in enumerate(settings):
        g = gradient(t, w)
        x = g if hp.decoupled else g + weight_decay * w
        ws = 0.0
        if hp.optimizer == "sgd":
            metric = np.ones(dimension)
            update = x
            if momentum:
                buffer = x if buffer is None else momentum * buffer + (1.0 - hp.dampening) * x
                update = x + momentum * buffer if hp.nesterov else buffer
        elif hp.optimizer == "rmsprop":
            second = hp.beta2 * second + (1 - hp.beta2) * x * x
            metric = 1.0 / (np.sqrt(second) + 1e-8)
            update = metric * x
            if momentum:
                buffer = (momentum * buffer if buffer is not None else 0.0) + update
                update = buffer
        else:
            first = np.zeros(dimension) if buffer is None else buffer
            second = hp.beta2 * second + (1 - hp.beta2) * x * x
            size = np.sqrt(second / (1 - hp.beta2 ** (t + 1))) + 1e-8
            earlier, metric = metric, 1.0 / size / (1 - momentum ** (t + 1))
            ws = float(w @ ((metric - earlier) * first))
            buffer = momentum * first + (1 - momentum) * x
            update = metric * buffer
        after = w - lr * update - (lr * weight_decay * w if hp.decoupled else 0.0)
        d = after - w
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g, w @ (metric * x), ws])
        w = after
    return Gram.from_array(np.array(rows))
