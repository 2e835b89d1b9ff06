"""A growing learning rate, written as weight decay: the inverse of `exponential.py`.

A run without decay at rates η̃_t, and any positive path P_t (P_0 = 1) for the lengths of its
weights over those of a second run, fix that second run: w_t = w̃_t/P_t. From w̃'s update,

    η_t = η̃_t/(P_tP_{t+1}),    b_t = (1 - P_t/P_{t+1})/η_t,    λ_t = b_t - γ·c_t,
    c_{t+1} = b_t·P_{t+1}/P_t,    c_0 = 0,

where b_t is the decay that acts on the second run at step t, and c_t the part of it that comes from
its buffer (v_t = P_tṽ_t + c_tw_t). Eliminating b and c gives theorem 2.5 of Li & Arora (2020).
P_t or η_t can be chosen; here the user chooses η_t.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array, Number, above_zero, held, number, numbers_in
from spherical_motion.errors import OutOfDomain
from spherical_motion.theory.published.exponential import per_step


@dataclasses.dataclass(frozen=True, slots=True)
class DecayedSchedule:
    """Learning rates and weight decays that do what an undecayed schedule does.

    Attributes:
        lrs: η_t, shape (steps,).
        weight_decays: λ_t, shape (steps,); below 0 where the undecayed rate grows too slowly for
            the rate that was asked for.
        log_scale: log P_t, by which the undecayed weights before step t are longer, (steps,).
        final_log_scale: log P after the last step.
    """

    lrs: Array
    weight_decays: Array
    log_scale: Array
    final_log_scale: float


@checks.validated
def undo_exponential_schedule(
    log_lrs: ArrayLike, lrs: ArrayLike, momentum: float
) -> DecayedSchedule:
    """The weight decay with which the rates `lrs` do what `exp(log_lrs)` do without any.

    The inverse of `exponential_schedule`, theorem 2.5 of Li & Arora (2020) solved for λ_t; exact
    for SGD with heavy-ball momentum whose trained parameters are all scale-invariant. For any
    other schedule λ_t may alternate, since P_tP_{t+1} alone leaves the even and the odd P_t free.
    For a steady growth use `equivalent_weight_decay`.

    Args:
        log_lrs: log η̃_t, shape (steps,).
        lrs: η_t to train with instead, a number or shape (steps,), > 0.
        momentum: γ, constant, in [0, 1).

    Raises:
        OutOfDomain: a value outside its range.
        InvalidArgument: shapes that do not fit.

    >>> from spherical_motion.theory import exponential_schedule
    >>> there = exponential_schedule([0.1, 0.1, 0.01], [0.02, 0.01, 0.01], momentum=0.9)
    >>> undo_exponential_schedule(there.log_lrs, [0.1, 0.1, 0.01], 0.9).weight_decays.round(9)
    array([0.02, 0.01, 0.01])
    """
    where = "undo_exponential_schedule"
    grown, wanted = per_step(where, "log_lrs", log_lrs, "lrs", lrs)
    remedy = "A rate of 0 has no logarithm."
    numbers_in(where, "log_lrs", grown, remedy=remedy, error=OutOfDomain)
    above_zero(where, "lrs", wanted)
    number(where, "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    # log P_{t+1} + log P_t = log(η̃_t/η_t); rounding alternates in sign and does not grow.
    sums = grown - np.log(wanted)
    log_scale = np.zeros(grown.size + 1)
    for t, total in enumerate(sums.tolist()):
        log_scale[t + 1] = total - log_scale[t]
    shrink = -np.expm1(-np.diff(log_scale))  # 1 - α_{t+1}
    felt = shrink / wanted
    held = np.concatenate([[0.0], felt[:-1] * np.exp(np.diff(log_scale)[:-1])])
    return DecayedSchedule(
        wanted.copy(), felt - momentum * held, log_scale[:-1], float(log_scale[-1])
    )


@checks.validated
def equivalent_weight_decay(
    growth: Number | float, lr: Number | float, momentum: Number | float
) -> Number:
    """Weight decay that a rate growing by `growth` a step amounts to, beside the constant `lr`.

    λ = (1 - z)(1 - γ/z)/η with z = growth^{-1/2}: eq. 4 of Li & Arora (2020) solved for λ, exact
    once the buffer has settled. The growing rate is η̃_0·growth^t = η·z^{-(2t + 1)}, so the
    constant one is `lr` = η̃_0·growth^{-1/2}. Works elementwise.

    Args:
        growth: factor a step of the rate, > 0; 1 for no growth.
        lr: η, > 0.
        momentum: γ in [0, 1); z > √γ, i.e. growth < 1/γ, is what theorem 2.1 covers.

    Raises OutOfDomain: outside 1 <= growth < 1/γ, lr <= 0 or momentum outside [0, 1).

    >>> from spherical_motion.theory import growth_rate
    >>> round(float(equivalent_weight_decay(growth_rate(0.1, 5e-4, 0.9), 0.1, 0.9)), 12)
    0.0005
    """
    where = "equivalent_weight_decay"
    rise, eta = np.asarray(growth, np.float64), above_zero(where, "lr", lr)
    gamma = numbers_in(where, "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    if not ((rise >= 1.0) & (rise * gamma < 1.0) & np.isfinite(rise)).all():
        raise OutOfDomain(
            f"{where}(growth=...) must lie in [1, 1/momentum), got {rise.min():g} to "
            f"{rise.max():g}: weight decay makes the rate grow, and no faster than the buffer "
            "forgets. Give the factor of one step, not of one epoch."
        )
    shrink = -np.expm1(-np.log(rise) / 2.0)  # 1 - z, uncancelled for a growth near 1
    kept = np.exp(-np.log(rise) / 2.0)
    with np.errstate(over="ignore", under="ignore"):
        return held(where, shrink * (1.0 - gamma / kept) / eta)
