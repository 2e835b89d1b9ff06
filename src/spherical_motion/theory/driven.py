"""The norm and the angle, step by step, under a drive that was measured or assumed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.theory.families import family_of
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.theory.settings import Array, Steps, damped_lr
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@checks.validated
def driven_norm(
    hp: HyperParameters, norm0: ArrayLike, *, lr: ArrayLike, weight_decay: ArrayLike,
    momentum: ArrayLike, drive: ArrayLike, span: ArrayLike = 1.0,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Array:  # fmt: skip
    """Norm before each step under a given drive and any schedule: the linear law, integrated.

    y ← y·e^{-r} + gain·drive·(1 - e^{-r})/r over each step: for SGD with L2 y = |w|⁴ and gain
    2η²/(1 - α)², for AdamW y = |w|² and gain η². Leading order in ηλ, without the memory of the
    momentum buffer at the start and across a change of settings, about 1/(1 - α) steps each. Adam
    with L2 is stepped with the pull 2ηλ|w|/σ that each norm gives.

    Args:
        hp: names the family; its rates are not used.
        norm0: norm before the first step, scalar or (groups,).
        lr, weight_decay, momentum: settings per step, shape (steps,).
        drive: SGD: h̃ per step (`sphere.unit_gradient_drive`), Nesterov |g̃|²; AdamW, Lion: numel;
            Adam with L2: σ (and `numel=`); any decoupled: mean |u|². Shape (steps,) or
            (steps, groups), or broadcastable to it.
        span: steps that each entry stands for, scalar or (steps,): samples may lie apart.
        overlap: for Nesterov; numel: for Adam with L2; correlation: for any decoupled.

    Returns:
        Norms before each step and after the last, shape (steps + 1,) or (steps + 1, groups).

    Raises:
        InvalidArgument: shapes that do not match, or something missing.
        OutOfDomain: a norm beyond float64.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> steps = np.full(100_000, 1.0)
    >>> norms = driven_norm(hp, 10.0, lr=0.1 * steps, weight_decay=1e-3 * steps,
    ...                     momentum=0.0 * steps, drive=10.0)
    >>> round(float(norms[-1]) ** 4, 1)
    500.0
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    lr, weight_decay, momentum = (np.asarray(x, np.float64) for x in (lr, weight_decay, momentum))
    if lr.ndim != 1 or not lr.shape == weight_decay.shape == momentum.shape:
        raise InvalidArgument(
            "driven_norm expects lr, weight_decay and momentum of one shape (steps,), got "
            f"{lr.shape}, {weight_decay.shape} and {momentum.shape}."
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norms = norms_under(hp, norm0, Steps(lr, weight_decay, momentum), drive, span, facts)
        lost = np.isnan(norms).any() and not np.isnan(np.asarray(drive, np.float64)).any()
    if lost or np.isinf(norms).any():
        raise OutOfDomain(
            f"driven_norm: a power {family_of(hp).power} of the norm is beyond what float64 holds. "
            "Check norm0, the drive and the units of both."
        )
    return norms


def norms_under(
    hp: HyperParameters, norm0: ArrayLike, s: Steps, drive: ArrayLike, span: ArrayLike,
    facts: GroupFacts,
) -> Array:  # fmt: skip
    """`driven_norm` with settings and facts as one object each."""
    family = _family(hp, facts, "driven_norm")
    start = np.asarray(norm0, dtype=np.float64) ** family.power
    drive = np.asarray(drive, dtype=np.float64)
    if drive.ndim == 1:
        drive = drive[(slice(None), *([None] * start.ndim))]
    drive = np.broadcast_to(drive, (s.lr.size, *start.shape))
    span = np.broadcast_to(np.asarray(span, np.float64), s.lr.shape)
    s = Steps(damped_lr(hp, s.lr, s.momentum), s.weight_decay, s.momentum, hp.beta2)
    y = family.driven_power(s, start, drive, span, facts)
    # A drive that dips below zero for long (single values of h̃ may) cannot turn a norm negative.
    return np.maximum(y, 0.0) ** (1.0 / family.power)


@checks.validated
def driven_step_ratio_sq(
    hp: HyperParameters, norm: ArrayLike, *, lr: ArrayLike, momentum: ArrayLike, drive: ArrayLike,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Array:  # fmt: skip
    """Mean |d|²/|w|² under a given norm and drive: the square of the angle, for small angles.

    SGD with L2: η²h̃/((1 - α²)|w|⁴), since |v_t|² = α²|v_{t-1}|² + h_t up to O(ηλ). AdamW:
    η²·numel·(1 - β1)/((1 + β1)|w|²). Negative where a single h̃ is; average before a root.

    Args:
        norm: |w| before the step, any shape; the others broadcast against it.
        hp, lr, momentum, drive, unit_grad_sq ... update_sq: as in `driven_norm`.

    >>> hp = HyperParameters("sgd", lr=0.1)
    >>> round(float(driven_step_ratio_sq(hp, 2.0, lr=0.1, momentum=0.0, drive=16.0)), 6)
    0.01
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    lr, momentum = np.asarray(lr, np.float64), np.asarray(momentum, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        ratios = step_ratios_under(hp, norm, Steps(lr, math.nan, momentum), drive, facts)
    if (np.isinf(ratios) & (np.asarray(norm) > 0.0)).any():
        raise OutOfDomain(
            "driven_step_ratio_sq: a step is more than 1e154 times the weights, whose square is "
            "beyond float64. Check norm, drive and the units of both."
        )
    return ratios


def step_ratios_under(
    hp: HyperParameters, norm: ArrayLike, s: Steps, drive: ArrayLike, facts: GroupFacts
) -> Array:
    """`driven_step_ratio_sq` with settings and facts as one object each."""
    family = _family(hp, facts, "driven_step_ratio_sq")
    norm, drive = np.asarray(norm, np.float64), np.asarray(drive, np.float64)
    s = Steps(damped_lr(hp, s.lr, s.momentum), math.nan, s.momentum, hp.beta2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(family.driven_turn(s, drive, facts) / norm**family.power)[()]


def _family(hp: HyperParameters, facts: GroupFacts, where: str) -> Family:
    """The family, once `facts` are checked for all it needs but the drive."""
    family = family_of(hp)
    family.check_facts(hp, facts, where, tuple(n for n in family.needs if n != family.drive))
    return family
