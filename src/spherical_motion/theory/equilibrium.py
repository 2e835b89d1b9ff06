"""Where the motion comes to balance: angle and norm of a scale-invariant group.

Weight decay pulls the weights inward, steps along the sphere push them outward. Where both
balance, each step turns the weights by an angle that depends on the settings alone.

At rest E|w + d|² = E|w|², so 2·mean C + mean D = 0, and cos Δ* = 1 - D/(2R). Each file in
`families` derives its D/R.
"""

from __future__ import annotations

from spherical_motion import checks
from spherical_motion.theory.families import family_of
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.theory.settings import Array
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@checks.validated
def equilibrium_angle(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """Angle Δ* by which each step turns a group in equilibrium, in radians.

    cos Δ* = 1 - D/(2R), exact in ηλ where D/R is (see `equilibrium_step_ratio`) and the drive is
    constant (wan2020, theorem 2, before its small-ηλ step). Adam with L2 and decoupled decay in
    general are known to leading order in ηλ.

    Args:
        hp: settings.
        numel, unit_grad_rms: for Adam with L2; correlation: for Muon and others.

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
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).angle(hp, facts)


@checks.validated
def equilibrium_angle_approx(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """Δ* to leading order in ηλ, radians: the form the papers print (wan2020, eq. 16).

    ===============  ==============================================
    heavy ball, L2   √(2ηλ/(1 + α)), short of the exact one by a share ηλ/(12(1 + α))
    Nesterov, L2     √(2ηλ(1 + 2α - 2α³)/(1 + α)) for uncorrelated gradients
    decoupled        √(2ηλ(1 - α)/(1 + α)), AdamW with β1 for α
    Lion             √(πηλK), K = (1 - β1)² + β1²(1 - β2)/(1 + β2); asin r ≈ r, too
    any decoupled    √(2ηλ/c)
    Adam, L2         √((1 - β1)/(1 + β1))·(2η²λ√numel/σ)^⅓
    ===============  ==============================================

    Raises what `equilibrium_angle` raises.

    >>> hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
    >>> round(equilibrium_angle_approx(hp), 6)
    0.003244
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).angle_approx(hp, facts)


@checks.validated
def equilibrium_step_ratio(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """√(mean |d|² / mean |w|²) at stationarity, dimensionless: the RMS law.

    For SGD with L2 it is an identity, √(2ηλ/(1 + α)), whatever the gradient noise (Li & Arora,
    2020, appendix B.2); also for decoupled decay, and for Nesterov with the group's own `overlap`.
    A fit shows only that the steps are what the settings say and that the norm does not drift.
    Raises what `equilibrium_angle` raises.

    >>> hp = HyperParameters("sgd", lr=0.02, weight_decay=0.01)
    >>> round(equilibrium_step_ratio(hp), 6)
    0.02
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).step_ratio(hp, facts)


@checks.validated
def equilibrium_norm(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
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
        unit_grad_sq: for SGD; numel: for AdamW and Lion; numel, unit_grad_rms: for Adam with L2;
            correlation, update_sq: for Muon and others.

    Raises:
        InvalidArgument: the quantity this optimizer needs is missing or not positive.
        OutOfDomain, NoTheory: as `equilibrium_angle`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(equilibrium_norm(hp, unit_grad_sq=10.0) ** 4, 1)
    500.0
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).norm(hp, facts)


@checks.validated
def equilibrium_norm_approx(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """|w*| to leading order in ηλ.

    Heavy ball and Nesterov with L2: (Lη/(2λ(1 - α)))^¼, for Nesterov times (1 + 2α²q)^¼;
    decoupled: (Lη/(2λ(1 - α)²))^¼; AdamW √(η·numel/(2λ)); Lion √(η·numel/(πλK)); the others as
    in `equilibrium_norm`. Raises what `equilibrium_norm` raises.

    >>> hp = HyperParameters("lion", lr=1e-4, weight_decay=1.0, betas=(0.9, 0.99))
    >>> round(equilibrium_norm_approx(hp, numel=10_000), 3)
    4.756
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).norm_approx(hp, facts)


@checks.validated
def balance_terms(
    hp: HyperParameters, gram: Gram, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> tuple[Array, Array]:  # fmt: skip
    """(outward, inward): two series whose means agree once the norm has stopped drifting.

    The RMS law, step by step. SGD, as identities: (1 + α)D against 2ηλR; with decoupled decay
    (1 + α - αηλ)D against 2ηλ(1 - α)R; Nesterov (1 + α - αηλ)D + 2ηα<d, g> against 2ηλR. Others:
    D against R times `equilibrium_step_ratio`².

    Returns:
        Two arrays of the Gram's shape, in units of |w|².

    Raises what `equilibrium_angle` raises.
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).balance(hp, gram, facts)
