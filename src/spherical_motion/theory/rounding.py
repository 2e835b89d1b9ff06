"""What rounding of the weights does to decay and balance.

Optimizers of torch decay by w ← fl(1 - ηλ)·w, in every implementation. Numbers just below 1 are
2^-24 apart in float32, so that the decay is a whole number of these: 1.0014 times the nominal one
at ηλ = 1e-5, 1.013 at 1e-6 and 1.19 at 1e-7. That is the decay λ' = (1 - fl(1 - ηλ))/η which the
balance law has.

Every weight is rounded, too, by e with |e_i| ≤ ε|w_i|, ε = 2^-24, when it is decayed and when it is
stepped. The law reads the optimizer's average off the step, so that e enters Σlaw as

    2Σ<w, e_t - βe_{t-1}>/(1 + β) - 2βΣ|e_t|²/(1 + β).

Errors of a step much larger than ε|w| are independent from entry to entry and step to step: <w, e>
has the variance ε²Σw⁴·⅔ for two roundings, where Σw⁴ is 3R²/numel for weights of normal
distribution. Errors of the decay repeat at each step, since it takes q/2 to q units from entries
with the same exponent, q = ηλ/ε: their mean is not 0 but up to about 4/q of the unit, or half of it
where q is small (measured on AdamW, q from 1.7 to 170).
"""

from __future__ import annotations

import math

import numpy as np

from spherical_motion.theory.settings import Array, Steps
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""dtype of the weights → largest relative error of rounding, ε."""


def roundoff_of(dtype: str | None) -> float:
    """ε of a dtype; that of float32 if it is not known.

    >>> roundoff_of("bfloat16"), roundoff_of(None) == 2.0**-24
    (0.00390625, True)
    """
    return ROUNDOFF.get(dtype or "float32", ROUNDOFF["float32"])


SCALES = frozenset({"adam", "adamw", "amsgrad", "nadam", "radam", "muon"})
"""Optimizers whose decoupled decay multiplies the weights by one rounded number."""

REPEATED = 4.0
"""Mean error of a repeated decay by q units, in units and times q; at most half a unit."""

CAUTION = 1.5
"""Times the standard deviation of what rounding leaves by chance. That is taken for two roundings
at the coarsest end of each binade, so that this is about three of the real ones."""


def real_decay(hp: HyperParameters, lr: Array, weight_decay: Array, dtype: str) -> Array:
    """The weight decay that acts, (1 - fl32(1 - ηλ))/η; the nominal one where none is rounded so.

    Weights of float16 and bfloat16 are multiplied by a number in float32, and the product is
    rounded: that error is among those of `rounding_error`.

    Args:
        hp: names the optimizer, and says whether its decay is decoupled.
        lr, weight_decay: per step, of one shape.
        dtype: of the weights.

    Returns:
        Decays of that shape.

    Source: derived here; measured on `torch.optim`, for-loop, foreach and fused.

    >>> hp = HyperParameters("adamw", lr=1e-5)
    >>> lr, decay = np.full(1, 1e-5), np.array([0.1])
    >>> (real_decay(hp, lr, decay, "float32") / decay).round(4)
    array([1.0133])
    """
    if dtype != "float32" or not hp.decoupled or hp.optimizer not in SCALES:
        return weight_decay
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (1.0 - lr * weight_decay).astype(np.float32).astype(np.float64)
        return np.where(lr > 0, (1.0 - factor) / lr, weight_decay)


def rounding_error(hp: HyperParameters, gram: Gram, s: Steps, dtype: str, numel: float) -> float:
    """The error of Σlaw that rounding of the weights may leave, in units of |w|².

    Args:
        hp: says whether the decay is decoupled.
        gram: the steps that are summed, shape (steps,).
        s: their settings, of the same shape.
        dtype: of the weights; another than in `ROUNDOFF` is taken as exact.
        numel: entries of the group.

    Source: derived here (the module's docstring).

    >>> gram = Gram.from_array(np.tile([1.0, 0.0, 1e-8, 0.0, 0.0, 0.0], (500, 1)))
    >>> s = Steps(np.full(500, 1e-5), np.full(500, 0.1), np.full(500, 0.9))
    >>> hp = HyperParameters("adamw", lr=1e-5)
    >>> error = rounding_error(hp, gram, s, "float32", 1000.0)
    >>> print(f"{error / gram.dd.sum():.2f}")  # steps of 1e-4 |w|
    0.15
    """
    if not ROUNDOFF.get(dtype) or not len(gram.ww):
        return 0.0
    return float(rounding_errors(hp, gram.ww[None], s, dtype, numel)[0])


def rounding_errors(hp: HyperParameters, ww: Array, s: Steps, dtype: str, numel: float) -> Array:
    """`rounding_error` of several groups at steps of the same settings.

    Args:
        hp, s, dtype, numel: as there; a dtype of `ROUNDOFF`.
        ww: |w|² at each step, shape (groups, steps).

    Returns:
        Shape (groups,).
    """
    unit, count = ROUNDOFF[dtype], ww.shape[1]
    momentum = float(np.mean(s.momentum))
    square = ww.mean(axis=1)
    lasting = 2.0 * (1.0 - momentum) / (1.0 + momentum)  # of a step's error, in the sum
    ends = 2.0 * math.sqrt(2.0) * momentum / (1.0 + momentum)
    once = CAUTION * unit * square * math.sqrt(2.0 / numel)  # √(⅔·3/numel)
    error = math.hypot(lasting * math.sqrt(count), ends) * once
    error = error + count * 2.0 * momentum / (1.0 + momentum) * unit**2 * square * 2.0 / 3.0
    if hp.decoupled:
        units = np.asarray(s.lr * s.weight_decay) / unit
        with np.errstate(divide="ignore"):
            repeated = np.where(units > 0, np.minimum(0.5, REPEATED / units), 0.0)
        error = error + lasting * unit * (repeated * ww).sum(axis=1)
    return error
