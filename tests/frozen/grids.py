"""Settings and recorded steps that several rooms are asked about."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherical_motion import Gram, HyperParameters

__all__ = ["GIVEN", "SETTINGS", "WITHOUT_THEORY", "grams", "walked"]

FAMILIES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "sgdm": {"optimizer": "sgd", "momentum": 0.9},
    "sgdm.6": {"optimizer": "sgd", "momentum": 0.6},
    "damped": {"optimizer": "sgd", "momentum": 0.9, "dampening": 0.3},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "sgdw": {"optimizer": "sgd", "momentum": 0.8, "decoupled": True},
    "adam": {"optimizer": "adam", "betas": (0.9, 0.999), "eps": 1e-8},
    "adamw": {"optimizer": "adamw", "betas": (0.9, 0.95)},
    "lion": {"optimizer": "lion", "betas": (0.95, 0.98)},
    "muon": {"optimizer": "muon", "momentum": 0.95},
    "other": {"optimizer": "other", "momentum": 0.9, "decoupled": True},
}

RATES = {
    "mild": (0.1, 1e-3),
    "small": (3e-3, 1e-4),
    "strong": (0.5, 0.2),
    "extreme": (2.0, 1.5),
    "undecayed": (0.1, 0.0),
    "still": (0.0, 1e-3),
}

SETTINGS: dict[str, HyperParameters] = {
    f"{family}/{rates}": HyperParameters(lr=lr, weight_decay=decay, **told)
    for family, told in FAMILIES.items()
    for rates, (lr, decay) in RATES.items()
    if family != "sgdm.6" or rates in ("mild", "strong")
}
"""Every family under mild, small, strong, too strong, no and useless settings."""

WITHOUT_THEORY: dict[str, HyperParameters] = {
    "unknown": HyperParameters("other", lr=0.1, weight_decay=1e-3),
    "lion with L2": HyperParameters("lion", lr=1e-4, weight_decay=0.1, decoupled=False),
    "damped nesterov": HyperParameters(
        "sgd", lr=0.1, weight_decay=1e-3, momentum=0.9, nesterov=True, dampening=0.1
    ),
    "upward": HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9, dampening=1.0),
}
"""Settings for which some closed form is missing, or all are."""

GIVEN: dict[str, Any] = {
    "unit_grad_sq": 7.0,
    "numel": 5000.0,
    "unit_grad_rms": 0.02,
    "correlation": 12.5,
    "update_sq": 40.0,
}
"""One description of a group that serves every optimizer."""


def grams(shape: tuple[int, ...] = (7,), seed: int = 0, dimension: int = 9) -> Gram:
    """Products of random weights, steps and gradients."""
    rng = np.random.default_rng(seed)
    w, d, g = rng.standard_normal((3, *shape, dimension))
    d = 0.2 * d
    pairs = ((w, w), (w, d), (d, d), (w, g), (g, g), (d, g))
    return Gram(*(np.sum(a * b, axis=-1) for a, b in pairs))


def walked(hp: HyperParameters, steps: int, *, dimension: int = 8, seed: int = 0) -> Gram:
    """Products of SGD on random gradients orthogonal to the weights, written out."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    v = np.zeros(dimension)
    rows = []
    for _ in range(steps):
        g = rng.standard_normal(dimension)
        g -= np.sum(g * w) / np.sum(w * w) * w
        g /= np.sqrt(np.sum(w * w))
        v = hp.momentum * v + g + hp.weight_decay * w
        d = -hp.lr * v
        pairs = ((w, w), (w, d), (d, d), (w, g), (g, g), (d, g))
        rows.append([float(np.sum(a * b)) for a, b in pairs])
        w = w + d
    return Gram.from_array(rows)
