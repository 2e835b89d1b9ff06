"""What is proven of the approach to equilibrium: theorems 1-3 of wan2021, 2 of wan2020.

V bounds the variance of the drive h̃ given the weights, l bounds h̃ from below, L is its mean; for
SGD without momentum h̃ = |g̃|². `assumptions.py` estimates all three from records and checks what
the theorems ask. The bounds are safe, not sharp: without momentum the variance of |w|² settles at
Vη²/(4L), an eighth of theorem 1's 2Vη²/l or less, and C(0.9) is nearly 300,000. Theorem 2's proof
needs real eigenvalues, ηλ < (1 - √α)², which momentum 0.99 breaks at ordinary settings; the
equilibrium does not.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from spherical_motion import checks
from spherical_motion.checks import Number, above_zero, held, not_negative, number
from spherical_motion.errors import NoTheory, OutOfDomain
from spherical_motion.theory.equilibrium import equilibrium_angle_approx
from spherical_motion.theory.families import family_of
from spherical_motion.theory.settings import is_heavy_ball
from spherical_motion.theory.transient import steps_to_equilibrium
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@dataclasses.dataclass(frozen=True, slots=True)
class AngleBound:
    """|Δ - √(2ηλ/(1 + α))| <= `deviation` (rad) with at least this `probability`."""

    deviation: float
    probability: float


@checks.validated
def bound_constant(momentum: float) -> float:
    """C(α) = 6|k|² of theorem 2, with k = (1, -2α, α²)/(1 - α)² (wan2021, eq. 108-110, 144).

    To leading order in ηλ. |k|² = (1 + 4α² + α⁴)/(1 - α)⁴.

    Raises OutOfDomain: momentum outside [0, 1).

    >>> round(bound_constant(0.9))
    293766
    """
    number("bound_constant", "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    return 6.0 * (1.0 + 4.0 * momentum**2 + momentum**4) / (1.0 - momentum) ** 4


@checks.validated
def norm_bound(
    hp: HyperParameters, steps: Number, *, start: float, variance: float, lowest: float
) -> Number:
    """Bound on E(|w_t|² - w*_t²)² after `steps` steps, in units of |w|⁴; steps may be an array.

    Theorem 1, α = 0: (1 - 2ηλ)^t·B + 2Vη²/(l(1 - 2ηλ)) (wan2021, eq. 32; its proof ends in 2Vη²/l,
    eq. 58). Theorem 2, α in (½, 1): (1 - 2ηλ/(1 - α))^t·B + C(α)Vη²/l (eq. 68).

    Args:
        hp: SGD with L2, heavy ball or no momentum.
        steps: t >= 0.
        start: B; the theorems only say that it exists. At t = 0 the left side is (|w_0|² - w*²)²,
            so B is at least that.
        variance, lowest: V and l.

    Raises:
        OutOfDomain: settings outside the theorem's range, or an argument out of its own.
        NoTheory: another optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(norm_bound(hp, 1_000_000, start=1e4, variance=3.0, lowest=7.0), 6)
    0.008573
    """
    function = "norm_bound"
    a = _require_theorem(hp, function)
    missing = not_negative(function, "start", start)
    noise = not_negative(function, "variance", variance) * hp.lr**2
    with np.errstate(over="ignore"):
        noise = noise / above_zero(function, "lowest", lowest)
    time = not_negative(function, "steps", steps)
    kept = 1.0 - 2.0 * a / (1.0 - hp.momentum)
    constant = bound_constant(hp.momentum) if hp.momentum else 2.0 / (1.0 - 2.0 * a)
    with np.errstate(over="ignore", under="ignore"):
        return held(function, np.exp(time * math.log(kept)) * missing + constant * noise)


@checks.validated
def angle_bound(
    hp: HyperParameters, *, variance: float, lowest: float, unit_grad_sq: float
) -> AngleBound:
    """Theorem 3 with its constants, once the vanishing term of `norm_bound` is gone.

    With q = (V/(L·l))^⅓ and probability at least 1 - q: for SGD the deviation is at most
    2q + ηλ√(V/(2L·l)) (wan2021, eq. 159-160), with momentum (1 - α)²√(2(1 - α²))/(2α²)·|k|·q
    (eq. 171). Terms of second order are left out, as in the paper.

    Raises:
        OutOfDomain: as `norm_bound`, or q >= 1, where the theorem says nothing.
        NoTheory: another optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> bound = angle_bound(hp, variance=1e-9, lowest=9.0, unit_grad_sq=10.0)
    >>> round(bound.deviation, 6), round(bound.probability, 6)
    (0.000446, 0.999777)
    """
    function = "angle_bound"
    a, m = _require_theorem(hp, function), hp.momentum
    variance = float(not_negative(function, "variance", variance))
    low = float(above_zero(function, "lowest", lowest))
    mean = float(above_zero(function, "unit_grad_sq", unit_grad_sq))
    with np.errstate(over="ignore", under="ignore"):
        uneven = float(np.float64(variance) / mean / low)
    share = uneven ** (1.0 / 3.0)
    if share >= 1.0:
        raise OutOfDomain(
            f"{function}: variance/(unit_grad_sq × lowest) must be < 1, got {uneven:g}: the "
            "gradient is too uneven for the theorem to give a probability."
        )
    if m:
        scale = (1.0 - m) ** 2 * math.sqrt(2.0 * (1.0 - m * m)) / (2.0 * m * m)
        return AngleBound(scale * math.sqrt(bound_constant(m) / 6.0) * share, 1.0 - share)
    return AngleBound(2.0 * share + a * math.sqrt(uneven / 2.0), 1.0 - share)


@checks.validated
def burn_in_steps(hp: HyperParameters, norm0: float, *, lowest: float) -> int:
    """Steps after which |w|² surely exceeds x/√2, x = √(lη(1 - α)/(2λ)); T of the proofs.

    From |w_t|² > x - (1 - 2ηλ/(1 - α))^t·|x - |w_0|²| (wan2021, lemma C.1 and eq. 35, 104), which
    asks for the logarithms of (1 - 1/√2)x and of |x - |w_0|²|. Eq. 36 prints the second with
    √(lη/(4λ)) for x, eq. 103 has (1 - α) in the denominator. Raises what `norm_bound` raises.

    >>> burn_in_steps(HyperParameters("sgd", lr=0.1, weight_decay=1e-3), 10.0, lowest=7.0)
    13484
    """
    function = "burn_in_steps"
    a = _require_theorem(hp, function)
    low = float(above_zero(function, "lowest", lowest))
    norm = float(above_zero(function, "norm0", norm0))
    ratio = hp.lr * (1.0 - hp.momentum) / 2.0 / hp.weight_decay
    fixed = math.sqrt(low) * math.sqrt(ratio)
    apart = abs(math.sqrt(fixed) - norm), math.sqrt(fixed) + norm  # |x - |w|²| is their product
    near = 1.0 - math.sqrt(0.5)
    if not (fixed > 0.0 and math.isfinite(fixed) and math.isfinite(apart[1])):
        raise OutOfDomain(f"{function}: the norms it compares are beyond float64. Check `lowest`.")
    far = math.log(apart[0]) + math.log(apart[1]) - math.log(fixed) if apart[0] else -math.inf
    if far <= math.log(near):
        return 0
    steps = (math.log(near) - far) / math.log1p(-2.0 * a / (1.0 - hp.momentum))
    return math.ceil(held(function, steps))


@checks.validated
def angle_tolerance(hp: HyperParameters, *, spread: float, overlap: float = 0.0) -> float:
    """Share by which the angle may end off √(2ηλ/(1 + α)), and |w|² off its rest.

    wan2020, theorem 2: K_α(δ + ε) with K_α = 7(1 + α)/(1 - α). Its L is the *norm* of the unit
    gradient, not its square. Without momentum this returns 2δ: the theorem prints δ for both, but
    in η|g̃|/|w|² both factors are within 1 ± δ (its proof loses a factor of 2 in eq. 35).

    Args:
        hp: SGD with L2.
        spread: δ, the largest ||g̃|/L - 1| late in the run.
        overlap: ε, the largest |<g, v_{t-1}>|/|g|².

    Raises:
        OutOfDomain: ηλ >= (1 - √α)², or a negative argument.
        NoTheory: another optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> round(angle_tolerance(hp, spread=1e-3, overlap=1e-3), 3)
    0.266
    """
    _require_theorem(hp, "angle_tolerance", least_momentum=0.0)
    spread = float(not_negative("angle_tolerance", "spread", spread))
    overlap = float(not_negative("angle_tolerance", "overlap", overlap))
    if not hp.momentum:
        return 2.0 * spread
    return 7.0 * (1.0 + hp.momentum) / (1.0 - hp.momentum) * (spread + overlap)


def relative_gradient_at_rest(hp: HyperParameters) -> float:
    """|g|/|w| in equilibrium = √(λ(1 - α)(2 - ηλ/(1 + α))/η): no gradient vanishes or explodes.

    wan2020, corollary 2.1 in figures: neither the unit gradient nor the scale at the start matters.
    SGD with L2, RMS gradient, uncorrelated gradients.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(relative_gradient_at_rest(hp) * hp.lr, 6)                   # the angle, √(2ηλ)
    0.014142
    """
    a = family_of(hp).intrinsic_lr(hp, "relative_gradient_at_rest")
    if not is_heavy_ball(hp):
        raise NoTheory(f"relative_gradient_at_rest holds for SGD with L2, got {hp.optimizer}.")
    m = hp.momentum
    return math.sqrt(hp.weight_decay * (1.0 - m) * (2.0 - a / (1.0 + m)) / hp.lr)


def narrowest_minimum(hp: HyperParameters) -> float:
    """Diameter, in radians on the sphere, under which no minimum can hold the weights.

    √(2ηλ/(1 + α)), the size of one step (wan2020, corollary 2.2).
    """
    return equilibrium_angle_approx(hp)


@checks.validated
def angle_floor(hp: HyperParameters, *, spread: float, overlap: float = 0.0) -> float:
    """Least angle of each step in the limit, rad: training at this rate cannot converge.

    wan2020, corollary 2.3, from theorem 2: Δ*(1 - K_α(δ + ε)), at least 0. Only a smaller learning
    rate lowers it. Arguments and errors as `angle_tolerance`.
    """
    share = angle_tolerance(hp, spread=spread, overlap=overlap)
    return equilibrium_angle_approx(hp) * max(0.0, 1.0 - share)


@checks.validated
def minimal_steps_after_drop(hp: HyperParameters, lr_drop: float) -> int:
    """⌈(1 - α)·ln k/(4ηλ)⌉ steps to the new equilibrium, at least (wan2020, corollary 2.5).

    `hp` holds the rate after the drop. The same as `steps_to_equilibrium` without `within`.

    >>> minimal_steps_after_drop(
    ...     HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9), 10)
    575647
    """
    return steps_to_equilibrium(hp, lr_drop)


@checks.validated
def minimal_steps_without_momentum(hp: HyperParameters, lr_drop: float) -> int:
    """⌈ln k/(4ηλ)⌉, whatever `hp.momentum` (wan2020, corollary 2.4 and section 4.1).

    The figure the paper prints for its run, 5,756,463; that run had momentum 0.9, for which
    `minimal_steps_after_drop` is the bound.

    >>> minimal_steps_without_momentum(
    ...     HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9), 10)
    5756463
    """
    return steps_to_equilibrium(dataclasses.replace(hp, momentum=0.0, nesterov=False), lr_drop)


def _require_theorem(hp: HyperParameters, function: str, least_momentum: float = 0.5) -> float:
    """ηλ, checked to lie in the range of theorem 1 (α = 0) or 2."""
    if not is_heavy_ball(hp) or (hp.dampening and hp.momentum):
        raise NoTheory(f"{function} holds for SGD with L2, heavy ball, without dampening.")
    a, m = family_of(hp).intrinsic_lr(hp, function), hp.momentum
    if 0.0 < m <= least_momentum:
        raise OutOfDomain(
            f"{function}: the theorems cover momentum 0 and ({least_momentum:g}, 1), got {m:g}."
        )
    limit = (1.0 - math.sqrt(m)) ** 2 if m else 0.5
    if not a < limit:
        what = "(1 - √momentum)²" if m else "1/2"
        raise OutOfDomain(
            f"{function}: the theorem's proof holds for lr × weight_decay < {what} = {limit:.3g}, "
            f"got {a:g}. The equilibrium itself exists beyond it; only the bound is not proven."
        )
    return a
