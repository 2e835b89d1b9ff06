"""The norm and the angle under a drive that was measured, or assumed, step by step."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.theory._families import Given, damped_lr
from spherical_motion.theory._laws import AdamL2, Law, Steps, law_of
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = ["driven_norm", "driven_step_ratio_sq"]

Array = NDArray[np.float64]

LARGEST_EXPONENT = 300.0
"""Total decay handled in one go by `driven_norm`: e^±300 stays well inside float64."""


def driven_norm(
    hp: HyperParameters,
    norm0: Any,
    *,
    lr: Any,
    weight_decay: Any,
    momentum: Any,
    drive: Any,
    span: Any = 1.0,
    **given: Unpack[Given],
) -> Array:
    """Norm before each step under a given drive and any schedule: the linear law, integrated.

    y ← y·e^{-r} + s over each step, with s = gain·drive·(1 - e^{-r})/r: for SGD with L2 y = |w|⁴
    and gain 2η²/(1 - α)², for AdamW y = |w|² and gain η². Leading order in ηλ; the start-up of the
    momentum buffer and its memory across a change of settings, about 1/(1 - α) steps each, are
    left out. Adam with L2 is stepped with the pull 2ηλ|w|/σ that each norm gives.

    Args:
        hp: names the family; its rates are not used.
        norm0: norm before the first step, scalar or (groups,).
        lr, weight_decay, momentum: settings per step, shape (steps,).
        drive: SGD: h̃ per step (`sphere.unit_gradient_drive`), Nesterov |g̃|²; AdamW, Lion: numel;
            Adam with L2: σ (and `numel=`); any decoupled: mean |u|². Shape (steps,) or
            (steps, groups), or broadcastable to it.
        span: how many steps each entry stands for, scalar or (steps,): recorded samples may lie
            apart.
        **given: Nesterov: `overlap`; Adam with L2: `numel`; any decoupled: `correlation`.

    Returns:
        Norms before each step and after the last, shape (steps + 1,) or (steps + 1, groups).

    Raises:
        InvalidArgument: shapes that do not match, or something missing.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> steps = np.full(100_000, 1.0)
    >>> norms = driven_norm(hp, 10.0, lr=0.1 * steps, weight_decay=1e-3 * steps,
    ...                     momentum=0.0 * steps, drive=10.0)
    >>> round(float(norms[-1]) ** 4, 1)
    500.0
    """
    law = _law(hp, given, "driven_norm")
    lr, weight_decay, momentum = (np.asarray(x, np.float64) for x in (lr, weight_decay, momentum))
    if lr.ndim != 1 or not lr.shape == weight_decay.shape == momentum.shape:
        raise InvalidArgument(
            "driven_norm expects lr, weight_decay and momentum of one shape (steps,), got "
            f"{lr.shape}, {weight_decay.shape} and {momentum.shape}."
        )
    start = np.asarray(norm0, dtype=np.float64) ** law.power
    shape = (lr.size, *start.shape)
    column = (slice(None), *([None] * start.ndim))
    drive = np.asarray(drive, dtype=np.float64)
    if drive.ndim == 1:
        drive = drive[column]
    span = np.broadcast_to(np.asarray(span, np.float64), lr.shape)

    s = Steps(damped_lr(hp, lr, momentum), weight_decay, momentum)
    if isinstance(law, AdamL2):
        y = _adam_l2(s, span, start, np.broadcast_to(drive, shape), law.numel)
    else:
        rate = span * law.rate(s)
        gain = span * law.gain(s) * _mean_decay(rate)
        y = _relaxed(rate, np.broadcast_to(gain[column] * drive, shape), start)
    # A drive that dips below zero for long (single values of h̃ may) cannot turn a norm negative.
    return np.maximum(y, 0.0) ** (1.0 / law.power)


def driven_step_ratio_sq(
    hp: HyperParameters, norm: Any, *, lr: Any, momentum: Any, drive: Any, **given: Unpack[Given]
) -> Array:
    """Mean |d|²/|w|² under a given norm and drive: the square of the angle, for small angles.

    SGD with L2: η²h̃/((1 - α²)|w|⁴), since |v_t|² = α²|v_{t-1}|² + h_t up to O(ηλ). AdamW:
    η²·numel·(1 - β1)/((1 + β1)|w|²). Negative where a single h̃ is; average before a root.

    Args:
        hp: names the family; its rates are not used.
        norm: |w| before the step, any shape; the others broadcast against it.
        lr, momentum, drive, **given: as in `driven_norm`.

    >>> hp = HyperParameters("sgd", lr=0.1)
    >>> round(float(driven_step_ratio_sq(hp, 2.0, lr=0.1, momentum=0.0, drive=16.0)), 6)
    0.01
    """
    law = _law(hp, given, "driven_step_ratio_sq")
    norm, lr, momentum, drive = (np.asarray(x, np.float64) for x in (norm, lr, momentum, drive))
    if isinstance(law, AdamL2):
        drive = np.where(np.isfinite(drive), law.numel, np.nan)
    s = Steps(damped_lr(hp, lr, momentum), math.nan, momentum)
    with np.errstate(divide="ignore", invalid="ignore"):
        return law.turn(s) * drive / norm**law.power


def _law(hp: HyperParameters, given: Given, function: str) -> Law:
    # σ comes step by step, as the drive; the law of Adam with L2 asks for one all the same.
    return law_of(hp, {**given, "unit_grad_rms": 1.0}, function)


def _mean_decay(rate: Array) -> Array:
    """(1 - e^{-r})/r: what is left, on average over a step, of what entered during it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rate > 0, -np.expm1(-rate) / rate, 1.0)


def _relaxed(rate: Array, source: Array, start: Array) -> Array:
    """y_{t+1} = y_t·e^{-rate_t} + source_t for all t at once; (steps + 1, ...)."""
    y = np.empty((rate.size + 1, *start.shape))
    y[0] = start
    column = (slice(None), *([None] * start.ndim))
    first = 0
    while first < rate.size:
        # Within a block y_t = e^{-E_t}(y_first + Σ s_i e^{E_{i+1}}), E the summed rate.
        exponent = np.cumsum(rate[first:])
        length = max(1, int(np.searchsorted(exponent, LARGEST_EXPONENT)))
        block = slice(first, first + length)
        grown = np.exp(exponent[:length])[column]
        total = y[first] + np.cumsum(source[block] * grown, axis=0)
        y[first + 1 : first + length + 1] = total / grown
        first += length
    return y


def _adam_l2(s: Steps, span: Array, start: Array, rms: Array, numel: float) -> Array:
    """|w|² under Adam with L2: the pull depends on the norm, so step by step."""
    y = np.empty((span.size + 1, *start.shape))
    y[0] = start
    pull, push = 2.0 * span * s.lr * s.weight_decay, span * s.lr**2 * numel
    for t in range(span.size):
        rate = pull[t] * np.sqrt(y[t]) / rms[t]
        y[t + 1] = y[t] * np.exp(-rate) + push[t] * _mean_decay(rate)
    return y
