"""Where the motion comes to balance: angle and norm of a scale-invariant group.

Weight decay pulls the weights inward, steps along the sphere push them outward. Where both
balance, each step turns the weights by an angle that depends on the settings alone.

At stationarity E|w + d|² = E|w|², so 2·mean C + mean D = 0, and cos Δ* = 1 - D/(2R). What is
left is D/R. With a = ηλ:

* heavy ball with L2 (α = momentum): D/R = 2a/(1 + α). Summing v's recursion against w gives
  it without any assumption on the gradient but <w, g> = 0 (Li & Arora, 2020, appendix B.2).
* Nesterov with L2: the four products |w|², <w, v>, <w, v_{t-1}>, |v|² obey a linear recursion;
  its fixed point is rational in a and α. It needs <v_{t-1}, g>, which is 0 for uncorrelated
  gradients; whatever that is, (1 + α - αa)·mean D + 2ηα·mean <d, g> = 2a·mean R.
* heavy ball with decoupled decay: D/R = 2a(1 - α)/(1 + α - αa), whatever the gradients do.
* AdamW: with its second moment settled, u = m/√v is a running mean of unit-size gradients, and
  D/R is that of the decoupled heavy ball.
* decoupled decay in general: |w|² sums the updates' correlations, |w|² = η²·mean |u|²·c/(a(2 - a))
  with c = 1 + 2Σρ_k(1 - a)^k. Where the updates forget far sooner than the decay, 1/a steps, c is
  1 + 2Σρ_k and D/R = 2a/c. Lion is the case u = sign(...), whose ρ_k the arcsine law gives.
* Adam with L2: the gradient's size divides the decay too, and sets the balance: the equation for
  each coordinate is w_i² = ησ_i/(2λ|w|), whose sum is |w|³ = ηdσ/(2λ).
"""

from __future__ import annotations

import math
from typing import Any, Unpack

from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.theory._families import (
    Family,
    Given,
    family_of,
    positive,
    require_decay,
    without_dampening,
)
from spherical_motion.theory._laws import law_of, lion_beta2
from spherical_motion.theory.adaptive import lion_correlation, lion_factor, lion_memory
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = [
    "balance_terms",
    "equilibrium_angle",
    "equilibrium_angle_approx",
    "equilibrium_norm",
    "equilibrium_norm_approx",
    "equilibrium_step_ratio",
]


def equilibrium_angle(hp: HyperParameters, **given: Unpack[Given]) -> float:
    """Angle Δ* by which each step turns a group in equilibrium, in radians.

    cos Δ* = 1 - D/(2R), exact in ηλ where D/R is (see `equilibrium_step_ratio`) and the drive is
    constant (wan2020, theorem 2, before its small-ηλ step). Adam with L2 and decoupled decay in
    general are known to leading order in ηλ.

    Args:
        hp: settings.
        **given: Adam with L2: `numel`, `unit_grad_rms`; Muon and others: `correlation`.

    Raises:
        OutOfDomain: no equilibrium at these settings; the message has the range.
        NoTheory: no closed form for this optimizer.
        InvalidArgument: something this optimizer needs is missing or not positive.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> round(equilibrium_angle(hp), 6)
    0.003244
    >>> muon = HyperParameters("muon", lr=0.02, weight_decay=0.1, momentum=0.95)
    >>> round(equilibrium_angle(muon, correlation=39.0), 6)
    0.010127
    """
    return 2.0 * math.asin(equilibrium_step_ratio(hp, **given) / 2.0)


def equilibrium_angle_approx(hp: HyperParameters, **given: Unpack[Given]) -> float:
    """Δ* to leading order in ηλ, radians: the form the papers print (wan2020, eq. 16).

    ===============  ==============================================
    heavy ball, L2   √(2ηλ/(1 + α)), short of the exact one by a share ηλ/(12(1 + α))
    Nesterov, L2     √(2ηλ(1 + 2α - 2α³)/(1 + α)) for uncorrelated gradients
    decoupled        √(2ηλ(1 - α)/(1 + α)), AdamW with β1 for α
    Lion             √(πηλK), K = (1 - β1)² + β1²(1 - β2)/(1 + β2); asin r ≈ r, too
    any decoupled    √(2ηλ/c)
    Adam, L2         √((1 - β1)/(1 + β1))·(2η²λ√numel/σ)^⅓
    ===============  ==============================================

    Raises:
        OutOfDomain, NoTheory, InvalidArgument: as `equilibrium_angle`.

    >>> hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
    >>> round(equilibrium_angle_approx(hp), 6)
    0.003244
    """
    a = require_decay(hp, "equilibrium_angle_approx", given)
    law, s = law_of(hp, given, "equilibrium_angle_approx"), without_dampening(hp)
    if family_of(hp) is Family.LION:
        beta2 = lion_beta2(hp, "equilibrium_angle_approx")
        return math.sqrt(math.pi * a * lion_factor(hp.momentum, beta2))
    return math.sqrt(float(law.turn(s) * law.rate(s) / law.gain(s)))


def equilibrium_step_ratio(hp: HyperParameters, **given: Unpack[Given]) -> float:
    """√(mean |d|² / mean |w|²) at stationarity, dimensionless: the RMS law.

    For SGD with L2 an identity, √(2ηλ/(1 + α)), whatever the gradient noise (Li & Arora, 2020,
    appendix B.2); also for decoupled decay, and for Nesterov with the group's own `overlap`. That
    it fits shows the steps are what the settings say and the norm has stopped drifting, and no
    more.

    Raises:
        OutOfDomain, NoTheory, InvalidArgument: as `equilibrium_angle`.

    >>> hp = HyperParameters("sgd", lr=0.02, weight_decay=0.01)
    >>> round(equilibrium_step_ratio(hp), 6)
    0.02
    """
    function = "equilibrium_step_ratio"
    a, m, family = require_decay(hp, function, given), hp.momentum, family_of(hp)
    if family is Family.HEAVY_BALL_L2:
        square = 2.0 * a / (1.0 + m)
    elif family is Family.NESTEROV_L2:
        q = _overlap(given)
        along = 1.0 + 2.0 * m - 2.0 * m**3 + a * m * (1.0 + 3.0 * m + 2.0 * m**2)
        cross = 2.0 * m**2 * (1.0 + m - m**2) + a * m**3 * (1.0 + 2.0 * m)
        square = 2.0 * a * (along + cross * q) / _nesterov_drive(a, m, q)
    elif family in (Family.HEAVY_BALL_DECOUPLED, Family.ADAMW):
        square = 2.0 * a * (1.0 - m) / (1.0 + m - m * a)
    elif family is Family.LION:
        memory = lion_memory(m, lion_beta2(hp, function), 1.0 - a)
        square = a * a + a * (2.0 - a) * (1.0 - 2.0 * a * memory) / (1.0 + 2.0 * (1.0 - a) * memory)
    else:
        law, s = law_of(hp, given, function), without_dampening(hp)
        square = float(law.turn(s) * law.rate(s) / law.gain(s))
    if not 0.0 < square <= 4.0:
        raise OutOfDomain(
            f"{function}: |d|²/|w|² would be {square:g}; a step at rest lies within (0, 4]. "
            "Lower the learning rate or the weight decay, or check what was given of the group."
        )
    return math.sqrt(square)


def equilibrium_norm(hp: HyperParameters, **given: Unpack[Given]) -> float:
    """Norm |w*| at which the group rests.

    With L = `unit_grad_sq`, the mean of the drive h̃, and a = ηλ, exact for constant h̃:

    * heavy ball, L2: |w*|⁴ = Lη / (λ(1 - α)(2 - a/(1 + α))) (wan2020, theorem 2);
    * heavy ball, decoupled: |w*|⁴ = Lη(1 + α - αa) / (λ(1 - α²)(1 - α + αa)(2 - a));
    * Nesterov, L2, L the mean of |g̃|² and q = `overlap`:
      |w*|⁴ = Lη[1 + α + aα + 2aα² + 2α²(1 + α)q] / (λ(1 - α + aα)(2 + 2α - a(1 + 2α))).

    With d = `numel`, for gradients of settled size that are independent from step to step:

    * AdamW: |w*|² = ηd(1 - β1)(1 + β1 - β1a) / (λ(1 + β1)(1 - β1 + β1a)(2 - a)), nearly ηd/(2λ);
    * Lion: |w*|² = ηdc/(λ(2 - a)), c = `lion_correlation`(β1, β2, a).

    To leading order: any decoupled √(η·`update_sq`·c/(2λ)); Adam with L2 (ηdσ/(2λ))^⅓.

    Args:
        hp: settings.
        **given: SGD: `unit_grad_sq`; AdamW, Lion: `numel`; Adam with L2: `numel`,
            `unit_grad_rms`; Muon and others: `correlation`, `update_sq`.

    Raises:
        InvalidArgument: the quantity this optimizer needs is missing or not positive.
        OutOfDomain, NoTheory: as `equilibrium_angle`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(equilibrium_norm(hp, unit_grad_sq=10.0) ** 4, 1)
    500.0
    """
    function = "equilibrium_norm"
    a, m, family = require_decay(hp, function, given), hp.momentum, family_of(hp)
    if family is Family.HEAVY_BALL_L2:
        share = 1.0 / ((1.0 - m) * (2.0 - a / (1.0 + m)))
    elif family is Family.NESTEROV_L2:
        share = _nesterov_drive(a, m, _overlap(given))
        share /= (1.0 - m + a * m) * (2.0 + 2.0 * m - a * (1.0 + 2.0 * m))
    elif family is Family.HEAVY_BALL_DECOUPLED:
        share = (1.0 + m - m * a) / ((1.0 - m * m) * (1.0 - m + m * a) * (2.0 - a))
    elif family in (Family.ADAMW, Family.LION):
        if family is Family.LION:
            correlation = lion_correlation(m, lion_beta2(hp, function), a)
        else:
            correlation = (1.0 - m) / (1.0 + m) * (1.0 + m * (1.0 - a)) / (1.0 - m * (1.0 - a))
        numel = positive(given, "numel", hp, function)
        return math.sqrt(hp.lr / hp.weight_decay * numel * correlation / (2.0 - a))
    else:
        return _leading_norm(hp, given, function)
    drive = positive(given, "unit_grad_sq", hp, function)
    return (drive * share * without_dampening(hp).lr / hp.weight_decay) ** 0.25


def equilibrium_norm_approx(hp: HyperParameters, **given: Unpack[Given]) -> float:
    """|w*| to leading order in ηλ.

    Heavy ball and Nesterov with L2: (Lη/(2λ(1 - α)))^¼, for Nesterov times (1 + 2α²q)^¼;
    decoupled: (Lη/(2λ(1 - α)²))^¼; AdamW √(η·numel/(2λ)); Lion √(η·numel/(πλK)); the others as
    in `equilibrium_norm`.

    Raises:
        InvalidArgument, OutOfDomain, NoTheory: as `equilibrium_norm`.

    >>> hp = HyperParameters("lion", lr=1e-4, weight_decay=1.0, betas=(0.9, 0.99))
    >>> round(equilibrium_norm_approx(hp, numel=10_000), 3)
    4.756
    """
    function = "equilibrium_norm_approx"
    require_decay(hp, function, given)
    norm = _leading_norm(hp, given, function)
    if family_of(hp) is Family.LION:
        beta2 = lion_beta2(hp, function)
        exact = lion_correlation(hp.momentum, beta2)
        norm *= math.sqrt(2.0 / (math.pi * lion_factor(hp.momentum, beta2) * exact))
    return norm


def balance_terms(hp: HyperParameters, gram: Gram, **given: Unpack[Given]) -> tuple[Any, Any]:
    """(outward, inward): two series whose means agree once the norm has stopped drifting.

    The RMS law, step by step. SGD, as identities: (1 + α)D against 2ηλR; with decoupled decay
    (1 + α - αηλ)D against 2ηλ(1 - α)R; Nesterov (1 + α - αηλ)D + 2ηα<d, g> against 2ηλR. Others:
    D against R times `equilibrium_step_ratio`².

    Returns:
        Two arrays of the Gram's shape, in units of |w|².

    Raises:
        OutOfDomain, NoTheory, InvalidArgument: as `equilibrium_angle`.
    """
    a, m, family = require_decay(hp, "balance_terms", given), hp.momentum, family_of(hp)
    if family is Family.HEAVY_BALL_L2:
        return (1.0 + m) * gram.dd, 2.0 * a * gram.ww
    if family is Family.NESTEROV_L2:
        outward = (1.0 + m - m * a) * gram.dd + 2.0 * hp.lr * m * gram.dg
        return outward, 2.0 * a * gram.ww
    if family is Family.HEAVY_BALL_DECOUPLED:
        return (1.0 + m - m * a) * gram.dd, 2.0 * a * (1.0 - m) * gram.ww
    return gram.dd, equilibrium_step_ratio(hp, **given) ** 2 * gram.ww


def _leading_norm(hp: HyperParameters, given: Given, function: str) -> float:
    law, s = law_of(hp, given, function), without_dampening(hp)
    drive = positive(given, law.drive, hp, function)
    return float(law.gain(s) * drive / law.rate(s)) ** (1.0 / law.power)


def _nesterov_drive(a: float, m: float, q: float) -> float:
    """What |g̃|² drives the norm with, overlap included; positive wherever the motion is."""
    drive = 1.0 + m + a * m + 2.0 * a * m**2 + 2.0 * m**2 * (1.0 + m) * q
    if not drive > 0:
        raise OutOfDomain(
            f"Nesterov: overlap <v, g>/|g|² must be > -{(1 + m + a * m) / (2 * m * m * (1 + m)):g} "
            f"for a norm at rest, got {q:g}: the gradients would undo the buffer."
        )
    return drive


def _overlap(given: Given) -> float:
    value = given.get("overlap")
    if value is None:
        return 0.0
    if not math.isfinite(value):
        raise InvalidArgument(f"overlap=... must be finite, got {value}.")
    return float(value)
