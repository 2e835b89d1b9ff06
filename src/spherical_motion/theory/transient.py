"""How fast the balance is reached: the norm relaxes, and the angle follows it.

One power y of the norm obeys, to leading order in ηλ, a *linear* law, dy/dt = r(y* - y):

============  =====  ==============  ==========================
family        y      rate r          y*
============  =====  ==============  ==========================
SGD with L2   |w|⁴   4ηλ/(1 - α)     Lη/(2λ(1 - α))
AdamW         |w|²   2ηλ             numel·η/(2λ)
============  =====  ==============  ==========================

(wan2021, appendix D.1, at α = 0; with momentum the same after a start-up of about 1/(1 - α)
steps.) In both, tan Δ = tan Δ*·√(y*/y): how far the angle is from Δ* and how far the norm is from
rest are one number, the excess y/y*. Dividing the learning rate by k multiplies the excess by k.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.theory._families import Family, family_of, require_decay
from spherical_motion.theory.equilibrium import equilibrium_angle
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = [
    "angle_at_excess",
    "driven_norm",
    "driven_step_ratio_sq",
    "relaxation_rate",
    "relaxed_excess",
    "relaxing_power",
    "steps_to_equilibrium",
    "steps_to_within",
]

Array = NDArray[np.float64]

LARGEST_EXPONENT = 300.0
"""Total decay handled in one go by `driven_norm`: e^±300 stays well inside float64."""


def relaxing_power(hp: HyperParameters) -> int:
    """The power of the norm that relaxes linearly: 4 for SGD with L2, 2 for AdamW."""
    return 2 if family_of(hp) is Family.ADAMW else 4


def relaxation_rate(hp: HyperParameters) -> float:
    """Rate r per step at which the excess y/y* decays to 1; its inverse is the time constant.

    SGD with L2: 4ηλ/(1 - α) (wan2021, appendix D.1, with momentum); AdamW: 2ηλ. Leading order
    in ηλ; AdamW's holds once its second moment has settled, after some 1/(1 - β2) steps.

    Raises:
        OutOfDomain, NoTheory: as `equilibrium_angle`.

    >>> round(relaxation_rate(HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)), 6)
    0.002
    """
    x = require_decay(hp, "relaxation_rate")
    if family_of(hp) is Family.ADAMW:
        return 2.0 * x
    return 4.0 * x / (1.0 - hp.momentum)


def relaxed_excess(hp: HyperParameters, excess0: Any, steps: Any) -> Array:
    """Excess y/y* after `steps` steps from `excess0`: 1 + (excess0 - 1)·e^{-r·steps}.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> float(relaxed_excess(hp, excess0=10.0, steps=0))
    10.0
    """
    start = np.asarray(excess0, dtype=np.float64)
    if np.any(start <= 0):
        raise OutOfDomain(f"relaxed_excess(excess0=...) must be > 0, got {start.min():g}.")
    decay = np.exp(-relaxation_rate(hp) * np.asarray(steps, dtype=np.float64))
    return 1.0 + (start - 1.0) * decay


def angle_at_excess(hp: HyperParameters, excess: Any) -> Array:
    """Angle of a group whose excess is y/y*, radians: tan Δ = tan Δ*·(y/y*)^{-1/2}.

    Exact for SGD without momentum and a constant unit gradient; otherwise quasi-static, that
    is, valid while the norm changes little over 1/(1 - α) steps.
    """
    return np.arctan(math.tan(equilibrium_angle(hp)) / np.sqrt(np.asarray(excess, np.float64)))


def steps_to_within(hp: HyperParameters, excess0: float, within: float) -> float:
    """Steps until the angle is within a share `within` of Δ*, from excess y/y* = `excess0`.

    (1/r)·ln[(excess0 - 1)/((1 ∓ within)^{-2} - 1)]; 0 if it is there already. Not rounded.
    """
    if not 0.0 < within < 1.0:
        raise OutOfDomain(f"steps_to_within(within=...) must lie in (0, 1), got {within}.")
    if not (math.isfinite(excess0) and excess0 > 0):
        raise OutOfDomain(f"steps_to_within(excess0=...) must be finite and > 0, got {excess0}.")
    side = 1.0 - within if excess0 > 1.0 else 1.0 + within
    ratio = (excess0 - 1.0) / (side**-2 - 1.0)
    return math.log(ratio) / relaxation_rate(hp) if ratio > 1.0 else 0.0


def steps_to_equilibrium(hp: HyperParameters, lr_drop: float, within: float | None = None) -> int:
    """Steps a new equilibrium takes after the learning rate was divided by `lr_drop`.

    `hp` holds the *new* rate. Without `within` it is the papers' lower bound, the time the norm
    needs if no gradient pushes it out: ln k / r, for SGD (1 - α)·ln k/(4ηλ) (wan2020, section
    4.1, which prints it for α = 0). At that step the angle is still only √(k/(2k - 1)) of its
    target. With `within`, the steps until the angle is that close to Δ*.

    Args:
        hp: settings after the drop.
        lr_drop: factor k > 1 (with `within`, any k > 0: k < 1 is a rise).
        within: wanted relative distance of the angle from Δ*, in (0, 1).

    Raises:
        OutOfDomain: `lr_drop` or `within` outside those ranges, or no equilibrium at `hp`.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9)
    >>> steps_to_equilibrium(hp, lr_drop=10)
    575647
    >>> steps_to_equilibrium(hp, lr_drop=10, within=0.05)
    1105636
    """
    if not (math.isfinite(lr_drop) and lr_drop > 0):
        raise OutOfDomain(f"steps_to_equilibrium(lr_drop=...) must be > 0, got {lr_drop}.")
    if within is not None:
        return math.ceil(steps_to_within(hp, lr_drop, within))
    if lr_drop <= 1.0:
        raise OutOfDomain(
            f"steps_to_equilibrium(lr_drop=...) must be > 1 for the lower bound, got {lr_drop}. "
            "After a rise the gradient sets the pace: pass within=0.05."
        )
    return math.ceil(math.log(lr_drop) / relaxation_rate(hp))


def driven_norm(
    hp: HyperParameters,
    norm0: Any,
    *,
    lr: Any,
    weight_decay: Any,
    momentum: Any,
    drive: Any,
    span: Any = 1.0,
) -> Array:
    """Norm before each step under a given drive and any schedule: the linear law, integrated.

    y ← y·e^{-r} + s, with s = 2η²h̃/(1 - α)² for SGD and η²·numel for AdamW (times (1 - e^{-r})/r,
    which carries it over one step). Leading order in ηλ; the start-up of the momentum buffer and
    its memory across a change of settings, about 1/(1 - α) steps each, are left out.

    Args:
        hp: names the family; its rates are not used.
        norm0: norm before the first step, scalar or (groups,).
        lr, weight_decay, momentum: settings per step, shape (steps,).
        drive: SGD: h̃ per step (`sphere.unit_gradient_drive`); AdamW: numel. Shape (steps,) or
            (steps, groups), or broadcastable to it.
        span: how many steps each entry stands for, scalar or (steps,): recorded samples may lie
            apart.

    Returns:
        Norms before each step and after the last, shape (steps + 1,) or (steps + 1, groups).

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> steps = np.full(100_000, 1.0)
    >>> norms = driven_norm(hp, 10.0, lr=0.1 * steps, weight_decay=1e-3 * steps,
    ...                     momentum=0.0 * steps, drive=10.0)
    >>> round(float(norms[-1]) ** 4, 1)
    500.0
    """
    power = relaxing_power(hp)
    lr, weight_decay, momentum = (np.asarray(x, np.float64) for x in (lr, weight_decay, momentum))
    if lr.ndim != 1 or not lr.shape == weight_decay.shape == momentum.shape:
        raise InvalidArgument(
            "driven_norm expects lr, weight_decay and momentum of one shape (steps,), got "
            f"{lr.shape}, {weight_decay.shape} and {momentum.shape}."
        )
    start = np.asarray(norm0, dtype=np.float64) ** power
    shape = (lr.size, *start.shape)
    column = (slice(None), *([None] * start.ndim))
    drive = np.asarray(drive, dtype=np.float64)
    if drive.ndim == 1:
        drive = drive[column]

    span = np.broadcast_to(np.asarray(span, np.float64), lr.shape)
    if power == 4:
        rate = span * 4.0 * lr * weight_decay / (1.0 - momentum)
        gain = span * 2.0 * (lr / (1.0 - momentum)) ** 2
    else:
        rate = span * 2.0 * lr * weight_decay
        gain = span * lr**2
    with np.errstate(divide="ignore", invalid="ignore"):
        carried = np.where(rate > 0, -np.expm1(-rate) / rate, 1.0)
    source = np.broadcast_to((gain * carried)[column] * drive, shape)

    y = np.empty((lr.size + 1, *start.shape))
    y[0] = start
    first = 0
    while first < lr.size:
        # Within a block y_t = e^{-E_t}(y_first + Σ s_i e^{E_{i+1}}), E the summed rate.
        exponent = np.cumsum(rate[first:])
        length = int(np.searchsorted(exponent, LARGEST_EXPONENT))
        if length == 0:  # one span over which everything before is forgotten
            y[first + 1] = y[first] * np.exp(-rate[first]) + source[first]
            first += 1
            continue
        block = slice(first, first + length)
        grown = np.exp(exponent[:length])[column]
        total = y[first] + np.cumsum(source[block] * grown, axis=0)
        y[first + 1 : first + length + 1] = total / grown
        first += length
    # A drive that dips below zero for long (single values of h̃ may) cannot turn a norm negative.
    return np.maximum(y, 0.0) ** (1.0 / power)


def driven_step_ratio_sq(
    hp: HyperParameters, norm: Any, *, lr: Any, momentum: Any, drive: Any
) -> Array:
    """Mean |d|²/|w|² under a given norm and drive: the square of the angle, for small angles.

    SGD with L2: η²h̃/((1 - α²)|w|⁴), since |v_t|² = α²|v_{t-1}|² + h_t up to O(ηλ). AdamW:
    η²·numel·(1 - β1)/((1 + β1)|w|²). Negative where a single h̃ is; average before a root.

    Args:
        hp: names the family; its rates are not used.
        norm: |w| before the step, any shape; the others broadcast against it.
        lr, momentum, drive: as in `driven_norm`.

    >>> hp = HyperParameters("sgd", lr=0.1)
    >>> round(float(driven_step_ratio_sq(hp, 2.0, lr=0.1, momentum=0.0, drive=16.0)), 6)
    0.01
    """
    norm, lr, momentum, drive = (np.asarray(x, np.float64) for x in (norm, lr, momentum, drive))
    with np.errstate(divide="ignore", invalid="ignore"):
        if family_of(hp) is Family.ADAMW:
            return lr**2 * drive * (1.0 - momentum) / ((1.0 + momentum) * norm**2)
        return lr**2 * drive / ((1.0 - momentum**2) * norm**4)
