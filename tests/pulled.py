"""Walks of weights that the loss pulls in or pushes out by a known strength: slow and obvious."""

from __future__ import annotations

import numpy as np

Settings = tuple[float, float, float]


def pulled_sgd(
    settings: list[Settings], kappa: float = 0.0, *, dimension: int = 60, norm0: float = 1.0,
    noise: float = 1.0, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Products (steps, 6) of SGD on gradients with <w, g> = kappa·|w|² exactly.

    The rest of the gradient is random, of size `noise` over |w| squared.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    v = np.zeros(dimension)
    rows = []
    for lr, weight_decay, momentum in settings:
        g = rng.standard_normal(dimension)
        g -= (g @ w) / (w @ w) * w
        g = noise * g / np.linalg.norm(g) / np.linalg.norm(w) + kappa * w
        v = momentum * v + g + weight_decay * w
        d = -lr * v
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g])
        w = w + d
    return np.array(rows)


def pulled_adam(
    settings: list[Settings], kappa: float = 0.0, *, decoupled: bool = True, beta2: float = 0.99,
    dimension: int = 200, norm0: float = 5.0, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Products (steps, 8) of Adam on random gradients of size 1 an entry, plus kappa·w."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    m, s, before = np.zeros(dimension), np.zeros(dimension), np.zeros(dimension)
    rows = []
    for step, (lr, weight_decay, beta1) in enumerate(settings, start=1):
        g = rng.standard_normal(dimension) + kappa * w
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
