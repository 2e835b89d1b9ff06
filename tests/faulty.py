"""Optimizers stepped one by one in any float type, with settings that are not those declared.

Slow and obvious, written out from `torch.optim`; it knows no law. The gradient has a random part
of its own scale, orthogonal to the weights unless `along` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Settings = Sequence[tuple[float, float, float]]
Write = Callable[[int, np.ndarray], np.ndarray | None]


def sgd(
    settings: Settings,
    *,
    dtype: type = np.float64,
    nesterov: bool = False,
    dampening: float = 0.0,
    decoupled: bool = False,
    along: float = 0.0,
    inward: float = 0.0,
    norm0: float = 2.0,
    dimension: int = 200,
    seed: int = 0,
    between: Write | None = None,
    reset: Sequence[int] = (),
    size: Callable[[int], float] = lambda step: 1.0,
) -> np.ndarray:
    """Products (steps, 6) of SGD with these real settings (lr, weight_decay, momentum).

    Args:
        along: standard deviation of the gradient's part along w, as a share of its norm.
        inward: κ of the gradient's part κ·w.
        between: may return new weights after a step; None leaves them.
        reset: steps that find the momentum buffer emptied.
        size: factor of the gradient's random part at each step.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w = (w * norm0 / np.linalg.norm(w)).astype(dtype)
    v: np.ndarray | None = None
    rows = []
    for step, (lr, decay, momentum) in enumerate(settings):
        lr, decay, momentum = dtype(lr), dtype(decay), dtype(momentum)
        exact = w.astype(np.float64)
        g = rng.standard_normal(dimension)
        g -= (g @ exact) / (exact @ exact) * exact
        g *= size(step) / np.linalg.norm(g) / np.linalg.norm(exact)
        radial = along * np.linalg.norm(g) * rng.standard_normal()
        g = (g + (radial / np.linalg.norm(exact) + inward) * exact).astype(dtype)
        x = g if decoupled else g + decay * w
        if step in reset:
            v = None
        v = x if v is None else momentum * v + (dtype(1.0) - dtype(dampening)) * x
        update = x + momentum * v if nesterov else v
        after = (w * (dtype(1.0) - lr * decay) if decoupled else w) - lr * (
            update if momentum else x
        )
        rows.append(products(w, after, g))
        w = after
        written = None if between is None else between(step, w)
        w = w if written is None else written.astype(dtype)
    return np.array(rows)


def products(w: np.ndarray, after: np.ndarray, g: np.ndarray) -> list[float]:
    """The six products of one step, in float64."""
    w, after, g = (x.astype(np.float64) for x in (w, after, g))
    d = after - w
    return [w @ w, w @ d, d @ d, w @ g, g @ g, d @ g]


def cosine(lr: float, decay: float, momentum: float, steps: int) -> list[tuple[float, ...]]:
    """A rate that falls to a hundredth of itself along half a cosine."""
    rates = lr * (0.505 + 0.495 * np.cos(np.pi * np.arange(steps) / steps))
    return [(float(rate), decay, momentum) for rate in rates]
