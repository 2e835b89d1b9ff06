"""How fast the balance is reached: the norm relaxes, and the angle follows it.

One power y of the norm obeys, to leading order in ηλ, dy/dt = r(y* - y): |w|⁴ at r = 4ηλ/(1 - α)
for SGD with L2 and 4ηλ with decoupled decay, |w|² at r = 2ηλ for AdamW, Lion and all whose steps
have a size of their own (wan2021, appendix D.1, at α = 0; with momentum the same after a start-up
of about 1/(1 - α) steps). In all of them tan Δ = tan Δ*·√(y*/y): how far the angle is from Δ* and
how far the norm is from rest are one number, the excess y/y*. Dividing the learning rate by k
multiplies the excess by k.

Adam with L2 is the exception: its norm obeys d(s²)/dt = (2r/3)(1 - s³), s² the excess of |w|²,
whose solution is t = [T(s_t) - T(s_0)]/r with T(s) = ½ln(1 + s + s²) - ln|1 - s| - √3·atan((2s +
1)/√3). There a drop by k multiplies the excess by k^⅔.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import NoTheory, OutOfDomain
from spherical_motion.theory._checks import above_zero, not_negative, plain
from spherical_motion.theory._families import (
    Family,
    Given,
    family_of,
    require_decay,
    without_dampening,
)
from spherical_motion.theory._laws import law_of
from spherical_motion.theory.equilibrium import equilibrium_angle, equilibrium_norm
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = [
    "angle_at_excess",
    "excess_after_drop",
    "excess_of",
    "norm_fourth",
    "relaxation_rate",
    "relaxed_excess",
    "relaxing_power",
    "sde_gamma",
    "steps_to_equilibrium",
    "steps_to_within",
]

Array = NDArray[np.float64]


def relaxing_power(hp: HyperParameters) -> int:
    """The power y of the norm in which excess is measured: 4 for the SGD families, 2 for others.

    Raises:
        NoTheory: no closed form for this optimizer.
    """
    sgd = (Family.HEAVY_BALL_L2, Family.NESTEROV_L2, Family.HEAVY_BALL_DECOUPLED)
    return 4 if family_of(hp) in sgd else 2


def relaxation_rate(hp: HyperParameters, **given: Unpack[Given]) -> float:
    """Rate r per step at which the excess y/y* decays to 1; its inverse is the time constant.

    SGD with L2: 4ηλ/(1 - α) (wan2021, appendix D.1, with momentum); with decoupled decay 4ηλ;
    AdamW, Lion and any decoupled: 2ηλ; Adam with L2: 3ηλ|w*|/σ, for small deviations. Leading
    order in ηλ.

    Raises:
        OutOfDomain, NoTheory, InvalidArgument: as `equilibrium_angle`.

    >>> round(relaxation_rate(HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)), 6)
    0.002
    """
    a = require_decay(hp, "relaxation_rate", given)
    if family_of(hp) is Family.ANY_DECOUPLED:  # the one rate that needs no correlation
        return 2.0 * a
    return float(law_of(hp, given, "relaxation_rate").rate(without_dampening(hp)))


def excess_of(hp: HyperParameters, norm: Any, **given: Unpack[Given]) -> Any:
    """Excess y/y* of a group of this norm: 1 at rest, above 1 where the norm is too large.

    Raises:
        OutOfDomain, NoTheory, InvalidArgument: as `equilibrium_norm`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(excess_of(hp, 10.0, unit_grad_sq=10.0), 2)
    20.0
    """
    ratio = above_zero("excess_of", "norm", norm) / equilibrium_norm(hp, **given)
    return plain(ratio ** relaxing_power(hp))


def excess_after_drop(hp: HyperParameters, lr_drop: float) -> float:
    """Excess of a group at rest once the rate is divided by `lr_drop`: k, Adam with L2 k^⅔."""
    return lr_drop ** (2.0 / 3.0) if family_of(hp) is Family.ADAM_L2 else lr_drop


def relaxed_excess(hp: HyperParameters, excess0: Any, steps: Any, **given: Unpack[Given]) -> Any:
    """Excess y/y* after `steps` steps from `excess0`: 1 + (excess0 - 1)·e^{-r·steps}.

    Adam with L2 follows its own law (see the module), solved to machine precision. Arrays
    broadcast.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> float(relaxed_excess(hp, excess0=10.0, steps=0))
    10.0
    """
    start = above_zero("relaxed_excess", "excess0", excess0)
    time = relaxation_rate(hp, **given) * not_negative("relaxed_excess", "steps", steps)
    if family_of(hp) is Family.ADAM_L2:
        return plain(_adam_excess(start, time))
    return plain(1.0 + (start - 1.0) * np.exp(-time))


def angle_at_excess(hp: HyperParameters, excess: Any, **given: Unpack[Given]) -> Any:
    """Angle of a group whose excess is y/y*, radians: tan Δ = tan Δ*·(y/y*)^{-1/2}.

    Exact for SGD without momentum and a constant unit gradient; otherwise quasi-static, that
    is, valid while the norm changes little over 1/(1 - α) steps.
    """
    excess = above_zero("angle_at_excess", "excess", excess)
    return plain(np.arctan(math.tan(equilibrium_angle(hp, **given)) / np.sqrt(excess)))


def steps_to_within(
    hp: HyperParameters, excess0: float, within: float, **given: Unpack[Given]
) -> float:
    """Steps until the angle is within a share `within` of Δ*, from excess y/y* = `excess0`.

    (1/r)·ln[(excess0 - 1)/((1 ∓ within)^{-2} - 1)]; 0 if it is there already. Not rounded.
    """
    if not 0.0 < within < 1.0:
        raise OutOfDomain(f"steps_to_within(within=...) must lie in (0, 1), got {within}.")
    if not (math.isfinite(excess0) and excess0 > 0):
        raise OutOfDomain(f"steps_to_within(excess0=...) must be finite and > 0, got {excess0}.")
    target = (1.0 - within if excess0 > 1.0 else 1.0 + within) ** -2
    ratio = (excess0 - 1.0) / (target - 1.0)
    if ratio <= 1.0:
        return 0.0
    rate = relaxation_rate(hp, **given)
    if family_of(hp) is Family.ADAM_L2:
        return float(_adam_clock(math.sqrt(target)) - _adam_clock(math.sqrt(excess0))) / rate
    return math.log(ratio) / rate


def steps_to_equilibrium(
    hp: HyperParameters, lr_drop: float, within: float | None = None, **given: Unpack[Given]
) -> int:
    """Steps a new equilibrium takes after the learning rate was divided by `lr_drop`.

    `hp` holds the *new* rate. Without `within` it is the papers' lower bound, the time the norm
    needs if no gradient pushes it out: ln k / r, for SGD (1 - α)·ln k/(4ηλ) (wan2020, section
    4.1, which prints it for α = 0; `minimal_steps_without_momentum`). At that step the angle is
    still only √(k/(2k - 1)) of its target. With `within`, the steps until the angle is that close
    to Δ*.

    Args:
        hp: settings after the drop.
        lr_drop: factor k > 1 (with `within`, any k > 0: k < 1 is a rise).
        within: wanted relative distance of the angle from Δ*, in (0, 1).
        **given: Adam with L2: `numel`, `unit_grad_rms`.

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
        return math.ceil(steps_to_within(hp, excess_after_drop(hp, lr_drop), within, **given))
    if lr_drop <= 1.0:
        raise OutOfDomain(
            f"steps_to_equilibrium(lr_drop=...) must be > 1 for the lower bound, got {lr_drop}. "
            "After a rise the gradient sets the pace: pass within=0.05."
        )
    rate = relaxation_rate(hp, **given)
    if family_of(hp) is Family.ADAM_L2:  # |w| shrinks as 1/t: d|w|/dt = -ηλ|w|²/σ
        return math.ceil(3.0 * (1.0 - lr_drop ** (-1.0 / 3.0)) / rate)
    return math.ceil(math.log(lr_drop) / rate)


def norm_fourth(hp: HyperParameters, norm0: Any, steps: Any, *, unit_grad_sq: Any) -> Any:
    """|w_t|⁴ after `steps` steps of SGD under a constant drive; arrays broadcast.

    |w_t|⁴ = e^{-rt}|w_0|⁴ + (1 - e^{-rt})·y*, with r and y* of the family: 4ηλ and Lη/(2λ) for
    SGD without momentum (wan2021, eq. 181), which `sde_gamma` has from the stochastic
    differential equation. There the limit holds σ² = Tr Σ, the variance of the unit gradient; in
    discrete time the mean gradient pushes outward too, and L = |E g̃|² + Tr Σ stands in its place
    (eq. 182). The two agree where noise dominates.

    Raises:
        OutOfDomain: no equilibrium at `hp`, or norm0, steps or unit_grad_sq out of range.
        NoTheory: an optimizer whose fourth power does not relax linearly.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(float(norm_fourth(hp, 10.0, 1_000_000, unit_grad_sq=10.0)), 1)
    500.0
    """
    function = "norm_fourth"
    if relaxing_power(hp) != 4:
        raise _only_sgd(function, hp)
    require_decay(hp, function)
    law, s = law_of(hp, {}, function), without_dampening(hp)
    start = not_negative(function, "norm0", norm0) ** 4
    drive = not_negative(function, "unit_grad_sq", unit_grad_sq)
    rest, rate = law.gain(s) * drive / law.rate(s), law.rate(s)
    time = rate * not_negative(function, "steps", steps)
    return plain(np.exp(-time) * start - np.expm1(-time) * rest)


def sde_gamma(hp: HyperParameters, gamma0: Any, steps: Any, *, noise_trace: Any) -> Any:
    """γ_t = |w_t|⁴/η² of the stochastic differential equation, inverse square effective rate.

    γ_t = e^{-4ηλt}γ_0 + (1 - e^{-4ηλt})·Tr Σ/(2ηλ) (Li, Lyu & Arora, 2020, as quoted in wan2021,
    lemma D.1, with ε = 0). Tr Σ is the *variance* of the unit gradient, `noise_trace`; see
    `norm_fourth` for what changes in discrete time.

    Raises:
        OutOfDomain: no equilibrium at `hp`, or an argument out of range.
        NoTheory: anything but SGD without momentum.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(float(sde_gamma(hp, 0.0, 1_000_000, noise_trace=10.0)))
    50000
    """
    function = "sde_gamma"
    if hp.momentum or family_of(hp) is not Family.HEAVY_BALL_L2:
        raise _only_sgd(function, hp)
    a = require_decay(hp, function)
    time = 4.0 * a * not_negative(function, "steps", steps)
    noise = not_negative(function, "noise_trace", noise_trace)
    start = not_negative(function, "gamma0", gamma0)
    return plain(np.exp(-time) * start - np.expm1(-time) * noise / (2.0 * a))


def _adam_clock(s: Any) -> Any:
    """T(s) of the module's docstring; s = √excess."""
    return (
        0.5 * np.log1p(s + s * s)
        - np.log(np.abs(1.0 - s))
        - math.sqrt(3.0) * np.arctan((2.0 * s + 1.0) / math.sqrt(3.0))
    )


def _adam_excess(start: Array, time: Array) -> Array:
    """Solve T(s) = T(s_0) + time for s², by bisection of |1 - s|, which only shrinks."""
    s0 = np.sqrt(start)
    s0, time = np.broadcast_arrays(s0, time)
    gap0 = np.abs(1.0 - s0)
    side = np.where(s0 > 1.0, 1.0, -1.0)
    resting = gap0 == 0.0
    goal = _adam_clock(np.where(resting, 2.0, s0)) + time
    low, high = np.zeros_like(gap0), np.where(resting, 1.0, gap0)  # T falls as the gap grows
    for _ in range(1100):  # every float64 lies within as many halvings of any other
        middle = 0.5 * (low + high)
        if np.all((middle == low) | (middle == high)):
            break
        with np.errstate(divide="ignore"):
            late = _adam_clock(1.0 + side * middle) > goal
        low, high = np.where(late, middle, low), np.where(late, high, middle)
    return np.where(resting, 1.0, 1.0 + side * 0.5 * (low + high)) ** 2


def _only_sgd(function: str, hp: HyperParameters) -> NoTheory:
    what = "SGD" if function == "norm_fourth" else "SGD with L2 and without momentum"
    return NoTheory(f"{function} holds for {what}, got {family_of(hp).value}.")
