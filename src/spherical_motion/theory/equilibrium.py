"""Where the motion comes to balance: angle and norm of a scale-invariant group.

Weight decay pulls the weights inward, steps along the sphere push them outward. Where both
balance, each step turns the weights by an angle that depends on the settings alone.

At stationarity E|w + d|² = E|w|², so 2·mean C + mean D = 0, and cos Δ* = 1 - D/(2R). What is
left is D/R:

* heavy ball with L2 (α = momentum): D/R = 2ηλ/(1 + α). Summing v's recursion against w gives
  it without any assumption on the gradient but <w, g> = 0 (Li & Arora, 2020, appendix B.2).
* AdamW: with its second moment settled, u = m/√v is a running mean of unit-size gradients and
  D/R = 2ηλ(1 - β1)/(1 + β1 - β1ηλ).
"""

from __future__ import annotations

import math

from spherical_motion.errors import InvalidArgument
from spherical_motion.theory._families import Family, family_of, require_decay
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = [
    "equilibrium_angle",
    "equilibrium_angle_approx",
    "equilibrium_norm",
    "equilibrium_step_ratio",
]


def equilibrium_angle(hp: HyperParameters) -> float:
    """Angle Δ* by which each step turns a group in equilibrium, in radians.

    SGD with L2: cos Δ* = 1 - ηλ/(1 + α), exact for a constant drive h̃ (wan2020, theorem 2,
    before its small-ηλ step). AdamW: cos Δ* = 1 - ηλ(1 - β1)/(1 + β1 - β1ηλ), exact in ηλ for
    uncorrelated gradients of settled size; measured steps agree to about 0.5%.

    Raises:
        OutOfDomain: outside 0 < ηλ < 2(1 + α), AdamW 0 < ηλ < 2.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> round(equilibrium_angle(hp), 6)
    0.003244
    """
    return 2.0 * math.asin(equilibrium_step_ratio(hp) / 2.0)


def equilibrium_angle_approx(hp: HyperParameters) -> float:
    """Δ* to leading order in ηλ: √(2ηλ/(1 + α)), for AdamW √(2ηλ(1 - β1)/(1 + β1)); radians.

    The form the papers print (wan2020, eq. 16); valid for ηλ ≪ 1, where it differs from the
    exact one by a share ηλ/(12(1 + α)).

    Raises:
        OutOfDomain, NoTheory: as `equilibrium_angle`.

    >>> hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
    >>> round(equilibrium_angle_approx(hp), 6)
    0.003244
    """
    x = require_decay(hp, "equilibrium_angle_approx")
    if family_of(hp) is Family.ADAMW:
        return math.sqrt(2.0 * x * (1.0 - hp.momentum) / (1.0 + hp.momentum))
    return math.sqrt(2.0 * x / (1.0 + hp.momentum))


def equilibrium_step_ratio(hp: HyperParameters) -> float:
    """√(mean |d|² / mean |w|²) at stationarity, dimensionless: the RMS law.

    For SGD with L2 an identity, √(2ηλ/(1 + α)), whatever the gradient noise (Li & Arora, 2020,
    appendix B.2). That it fits shows the steps are what the settings say and the norm has
    stopped drifting, and no more.

    Raises:
        OutOfDomain, NoTheory: as `equilibrium_angle`.

    >>> hp = HyperParameters("sgd", lr=0.02, weight_decay=0.01)
    >>> round(equilibrium_step_ratio(hp), 6)
    0.02
    """
    x = require_decay(hp, "equilibrium_step_ratio")
    if family_of(hp) is Family.ADAMW:
        return math.sqrt(2.0 * x * (1.0 - hp.momentum) / (1.0 + hp.momentum - hp.momentum * x))
    return math.sqrt(2.0 * x / (1.0 + hp.momentum))


def equilibrium_norm(
    hp: HyperParameters, *, unit_grad_sq: float | None = None, numel: int | None = None
) -> float:
    """Norm |w*| at which the group rests.

    SGD with L2: |w*|⁴ = Lη / (λ(1 - α)(2 - ηλ/(1 + α))) with L = `unit_grad_sq` = E[h̃], the
    mean of `sphere.unit_gradient_drive`; exact for constant h̃ (wan2020, theorem 2). AdamW: the
    entries have RMS √(η/(2λ)), so |w*| = √(numel·η/(2λ)); leading order, within about 2%.

    Args:
        hp: settings.
        unit_grad_sq: L, needed by SGD; a squared norm, > 0.
        numel: number of entries of the group, needed by AdamW.

    Raises:
        InvalidArgument: the quantity this optimizer needs is missing or not positive.
        OutOfDomain, NoTheory: as `equilibrium_angle`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(equilibrium_norm(hp, unit_grad_sq=10.0) ** 4, 1)
    500.0
    """
    x = require_decay(hp, "equilibrium_norm")
    if family_of(hp) is Family.ADAMW:
        return math.sqrt(_positive("numel", numel, hp) * hp.lr / (2.0 * hp.weight_decay))
    drive = _positive("unit_grad_sq", unit_grad_sq, hp)
    a = hp.momentum
    fourth = drive * hp.lr / (hp.weight_decay * (1.0 - a) * (2.0 - x / (1.0 + a)))
    return fourth**0.25


def _positive(name: str, value: float | None, hp: HyperParameters) -> float:
    if value is None or not (math.isfinite(value) and value > 0):
        raise InvalidArgument(
            f"equilibrium_norm({name}=...) must be finite and > 0 for {hp.optimizer}, got {value}."
        )
    return float(value)
