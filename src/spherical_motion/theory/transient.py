"""How fast the balance is reached: the norm relaxes, and the angle follows it.

One power y of the norm obeys dy/dt = r(y* - y) to leading order in ηλ (`family` has the table;
wan2021, appendix D.1, at α = 0; with momentum the same after a start-up of about 1/(1 - α) steps).
Since tan Δ = tan Δ*·√(y*/y), one number says how far both angle and norm are from rest: the excess
y/y*. Dividing the learning rate by k multiplies the excess by k. Adam with L2 is the exception
(`families.adam_l2`).
"""

from __future__ import annotations

import math

import numpy as np

from spherical_motion import checks
from spherical_motion.checks import Number, above_zero, held, not_negative, number, plain
from spherical_motion.errors import NoTheory, OutOfDomain
from spherical_motion.theory.families import family_of
from spherical_motion.theory.family import settled_excess
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.theory.motion import has_law_of_motion
from spherical_motion.theory.settings import is_heavy_ball, without_dampening
from spherical_motion.vocabulary.hyperparameters import HyperParameters


def relaxing_power(hp: HyperParameters) -> int:
    """The power of the norm in which excess is measured: 4 for the SGD families, 2 for others."""
    return family_of(hp).power


@checks.validated
def relaxation_rate(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """Rate r per step at which the excess y/y* decays to 1; its inverse is the time constant.

    SGD with L2: 4ηλ/(1 - α) (wan2021, appendix D.1, with momentum); with decoupled decay 4ηλ;
    AdamW, Lion and any decoupled: 2ηλ; Adam with L2: 3ηλ|w*|/σ, for small deviations. Leading
    order in ηλ. Raises what `equilibrium_angle` raises.

    >>> round(relaxation_rate(HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)), 6)
    0.002
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).relaxation_rate(hp, facts)


@checks.validated
def excess_of(
    hp: HyperParameters, norm: Number, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Number:  # fmt: skip
    """Excess y/y* of a group of this norm: 1 at rest, above 1 where the norm is too large.

    Raises what `equilibrium_norm` raises.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(excess_of(hp, 10.0, unit_grad_sq=10.0), 2)
    20.0
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    family = family_of(hp)
    with np.errstate(over="ignore", under="ignore"):
        ratio = above_zero("excess_of", "norm", norm) / family.norm(hp, facts)
        return held("excess_of", ratio**family.power)


@checks.validated
def excess_after_drop(hp: HyperParameters, lr_drop: float) -> float:
    """Excess of a group at rest once the rate is divided by `lr_drop`: k, Adam with L2 k^⅔."""
    return family_of(hp).excess_after_drop(lr_drop)


@checks.validated
def relaxed_excess(
    hp: HyperParameters, excess0: Number | float, steps: Number | float, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Number:  # fmt: skip
    """Excess y/y* after `steps` steps from `excess0`: 1 + (excess0 - 1)·e^{-r·steps}.

    Adam with L2 follows its own law (`families.adam_l2`), solved to machine precision. Arrays
    broadcast.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> float(relaxed_excess(hp, excess0=10.0, steps=0))
    10.0
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    family = family_of(hp)
    start = above_zero("relaxed_excess", "excess0", excess0)
    rate = family.relaxation_rate(hp, facts)
    return plain(family.excess_after(start, rate * not_negative("relaxed_excess", "steps", steps)))


@checks.validated
def angle_at_excess(
    hp: HyperParameters, excess: Number, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Number:  # fmt: skip
    """Angle of a group whose excess is y/y*, radians: tan Δ = tan Δ*·(y/y*)^{-1/2}.

    Exact for SGD without momentum and a constant unit gradient; otherwise valid while the norm
    changes little over 1/(1 - α) steps.
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    y = above_zero("angle_at_excess", "excess", excess)
    return plain(family_of(hp).angle_at_excess(hp, y, facts))


@checks.validated
def steps_to_within(
    hp: HyperParameters, excess0: float, within: float, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """Steps until the angle stays within a share `within` of Δ*, from excess y/y* = `excess0`.

    SGD, with momentum or without: by the exact recursion of norm and buffer under a constant drive
    (`theory.recursion`), from a group that rested under another learning rate. For ηλ beyond
    (1 - √α)² norm and buffer swing about each other, and the last time counts that the angle is
    further off; inf if it never stays there. The others: (1/r)·ln[(excess0 - 1)/((1 ∓ within)^{-2}
    - 1)], leading order in ηλ; 0 if it is there already, also for an optimizer without a closed
    form. Not rounded.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.99)
    >>> math.ceil(steps_to_within(hp, 10.0, 0.05))  # it swings; without that it would be 222
    606
    """
    if settled_excess(excess0, within) == excess0 and not has_law_of_motion(hp):
        return 0.0
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).steps_to_within(hp, excess0, within, facts)


@checks.validated
def steps_to_equilibrium(
    hp: HyperParameters, lr_drop: float, within: float | None = None, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> int:  # fmt: skip
    """Steps a new equilibrium takes after the learning rate was divided by `lr_drop`.

    `hp` holds the *new* rate. Without `within` it is the papers' lower bound, the time the norm
    needs if no gradient pushes it out: ln k / r, for SGD (1 - α)·ln k/(4ηλ) (wan2020, section
    4.1, which prints it for α = 0; `minimal_steps_without_momentum`). At that step the angle is
    still only √(k/(2k - 1)) of its target. With `within`, the steps until the angle is that close
    to Δ*; `steps_to_within` says how they are counted.

    Args:
        hp: settings after the drop.
        lr_drop: factor k > 1 (with `within`, any k > 0: k < 1 is a rise).
        within: wanted relative distance of the angle from Δ*, in (0, 1).
        numel, unit_grad_rms: for Adam with L2.

    Raises:
        OutOfDomain: `lr_drop` or `within` outside those ranges, no equilibrium at `hp`, or one
            that is never reached.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9)
    >>> steps_to_equilibrium(hp, lr_drop=10)
    575647
    >>> steps_to_equilibrium(hp, lr_drop=10, within=0.05)
    1105618
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    where, remedy = "steps_to_equilibrium", ""
    if within is None:
        remedy = "After a rise the gradient sets the pace: pass within=0.05."
    least = 1.0 if within is None else 0.0
    lr_drop = number(where, "lr_drop", lr_drop, above=least, remedy=remedy, error=OutOfDomain)
    family = family_of(hp)
    excess = family.excess_after_drop(lr_drop)
    if within is not None:
        steps = family.steps_to_within(hp, excess, within, facts)
    else:
        steps = family.unopposed_time(excess) / family.relaxation_rate(hp, facts)
    if not math.isfinite(steps):
        raise OutOfDomain(
            f"{where}: at lr × weight_decay = {hp.intrinsic_lr:g} and momentum {hp.momentum:g} "
            "equilibrium is never reached. Lower the learning rate or the weight decay, or raise "
            "both if they are tiny."
        )
    return math.ceil(steps)


@checks.validated
def norm_fourth(
    hp: HyperParameters, norm0: Number | float, steps: Number | float, *,
    unit_grad_sq: Number | float,
) -> Number:  # fmt: skip
    """|w_t|⁴ after `steps` steps of SGD under a constant drive; arrays broadcast.

    |w_t|⁴ = e^{-rt}|w_0|⁴ + (1 - e^{-rt})·y*, with r and y* of the family: 4ηλ and Lη/(2λ) for
    SGD without momentum (wan2021, eq. 181). The stochastic differential equation (`sde_gamma`)
    has Tr Σ, the variance of the unit gradient, in place of L = |E g̃|² + Tr Σ: in discrete time
    the mean gradient pushes outward too (eq. 182). The two agree where noise dominates.

    Raises:
        OutOfDomain: no equilibrium at `hp`, norm0, steps or unit_grad_sq out of range, or a
            result beyond float64.
        NoTheory: an optimizer whose fourth power does not relax linearly.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(float(norm_fourth(hp, 10.0, 1_000_000, unit_grad_sq=10.0)), 1)
    500.0
    """
    where, family = "norm_fourth", family_of(hp)
    if family.power != 4:
        raise NoTheory(f"{where} holds for SGD, got {family.name}.")
    family.intrinsic_lr(hp, where)
    facts, felt = GroupFacts(), without_dampening(hp)
    norms = not_negative(where, "norm0", norm0)
    drive = not_negative(where, "unit_grad_sq", unit_grad_sq)
    rate = family.rate(felt, facts)
    rest = family.gain(felt, facts) * drive / rate
    time = rate * not_negative(where, "steps", steps)
    with np.errstate(over="ignore", under="ignore"):
        # e^{-t/4} first: the fourth power of a large norm may overflow where what is left does not.
        left = (np.exp(-time / 4.0) * norms) ** 4
        return held(where, left - np.expm1(-time) * rest)


@checks.validated
def sde_gamma(
    hp: HyperParameters, gamma0: Number | float, steps: Number | float, *,
    noise_trace: Number | float,
) -> Number:  # fmt: skip
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
    where, family = "sde_gamma", family_of(hp)
    if hp.momentum or not is_heavy_ball(hp):
        raise NoTheory(f"{where} holds for SGD with L2 and without momentum, got {family.name}.")
    a = family.intrinsic_lr(hp, where)
    time = 4.0 * a * not_negative(where, "steps", steps)
    noise = not_negative(where, "noise_trace", noise_trace)
    start = not_negative(where, "gamma0", gamma0)
    with np.errstate(over="ignore", under="ignore"):
        return held(where, np.exp(-time) * start - np.expm1(-time) * (noise / (2.0 * a)))
