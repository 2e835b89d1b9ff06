"""Runs made of random gradients: slow, obvious, and independent of the library's formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Settings = tuple[float, float, float]


def simulate_sgd(
    settings: list[Settings],
    *,
    size: Callable[[int, np.random.Generator], float] = lambda step, rng: 1.0,
    radial: float | Callable[[int], float] = 0.0,
    norm0: float = 1.0,
    dimension: int = 60,
    nesterov: bool = False,
    tamper: Callable[[int, np.ndarray], None] = lambda step, w: None,
    seed: int = 0,
) -> np.ndarray:
    """Products (steps, 6) of SGD on a group whose unit gradient is random with norm `size`.

    `radial` adds that share of λ·w to the gradient, or one for each step; `tamper` may write the
    weights after a step.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    v = None
    rows = []
    for step, (lr, weight_decay, momentum) in enumerate(settings):
        g = rng.standard_normal(dimension)
        g -= (g @ w) / (w @ w) * w
        g *= size(step, rng) / np.linalg.norm(g) / np.linalg.norm(w)
        g = g + (radial(step) if callable(radial) else radial) * weight_decay * w
        pull = g + weight_decay * w
        v = pull if v is None else momentum * v + pull
        move = pull + momentum * v if nesterov else v
        after = w - lr * move
        tamper(step, after)
        d = after - w
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g])
        w = after
    return np.array(rows)


def simulate_adamw(
    settings: list[Settings],
    *,
    beta2: float = 0.999,
    norm0: float = 1.0,
    dimension: int = 400,
    seed: int = 0,
) -> np.ndarray:
    """Products (steps, 6) of AdamW on random gradients orthogonal to the weights."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    m, s = np.zeros(dimension), np.zeros(dimension)
    rows = []
    for step, (lr, weight_decay, beta1) in enumerate(settings, start=1):
        g = rng.standard_normal(dimension)
        g -= (g @ w) / (w @ w) * w
        g /= np.linalg.norm(w)
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        u = (m / (1 - beta1**step)) / (np.sqrt(s / (1 - beta2**step)) + 1e-12)
        d = -lr * weight_decay * w - lr * u
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g])
        w = w + d
    return np.array(rows)


def constant(lr: float, weight_decay: float, momentum: float, steps: int) -> list[Settings]:
    """The same settings for some steps."""
    return [(lr, weight_decay, momentum)] * steps
