"""Walks of weights that the loss pulls in or pushes out by a known strength: slow and obvious."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Settings = tuple[float, float, float]


def pulled_sgd(
    settings: list[Settings], kappa: float | Callable[[int], float] = 0.0, *, dimension: int = 60,
    norm0: float = 1.0, noise: float = 1.0, seed: int = 0,
    write: Callable[[int], float] = lambda step: 1.0,
    skips: Callable[[int], bool] = lambda step: False,
) -> np.ndarray:  # fmt: skip
    """Products (steps, 6) of SGD on gradients with <w, g> = kappa·|w|² exactly.

    The rest of the gradient is random, of size `noise` over |w| squared. After each step something
    else multiplies the weights by `write`. The optimizer skips the steps without a gradient.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    v = np.zeros(dimension)
    rows = []
    for step, (lr, weight_decay, momentum) in enumerate(settings):
        if skips(step):
            rows.append([w @ w, 0.0, 0.0, np.nan, np.nan, np.nan])
            continue
        g = rng.standard_normal(dimension)
        g -= (g @ w) / (w @ w) * w
        radial = kappa(step) if callable(kappa) else kappa
        g = noise * g / np.linalg.norm(g) / np.linalg.norm(w) + radial * w
        v = momentum * v + g + weight_decay * w
        d = -lr * v
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g])
        w = (w + d) * write(step)
    return np.array(rows)


def pulled_adam(
    settings: list[Settings], kappa: float = 0.0, *, decoupled: bool = True, beta2: float = 0.99,
    dimension: int = 200, norm0: float = 5.0, seed: int = 0,
    size: Callable[[int], float] = lambda step: 1.0,
) -> np.ndarray:  # fmt: skip
    """Products (steps, 8) of Adam on random gradients of size 1 an entry, plus kappa·w.

    The whole is multiplied by `size`.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    m, s, before = np.zeros(dimension), np.zeros(dimension), np.zeros(dimension)
    rows = []
    for step, (lr, weight_decay, beta1) in enumerate(settings, start=1):
        g = size(step) * (rng.standard_normal(dimension) + kappa * w)
        x = g if decoupled else g + weight_decay * w
        old = m
        m = beta1 * m + (1 - beta1) * x
        s = beta2 * s + (1 - beta2) * x * x
        p = 1.0 / (1 - beta1**step) / (np.sqrt(s / (1 - beta2**step)) + 1e-12)
        d = -lr * (p * m + (weight_decay * w if decoupled else 0.0))
        six = [w @ w, w @ d, d @ d, w @ g, g @ g, d @ g]
        rows.append([*six, w @ (p * x), w @ ((p - before) * old)])
        w, before = w + d, p
    return np.array(rows)
