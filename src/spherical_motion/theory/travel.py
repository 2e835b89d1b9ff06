"""How far many steps go: the angle between the weights now and n steps later, in equilibrium.

If each gradient is orthogonal to all weights before it on average (gradients of random batches
are, but for their common part), the weights forget their direction by the optimizer's own
homogeneous recursion. The mean cosine c_n = E<w_{t+n}, w_t>/|w|² obeys (`Family.memory`)

    c_n = φ₁c_{n-1} + φ₂c_{n-2},    c_0 = 1,  c_1 = cos Δ*,

with φ₁ and -φ₂ 1 + α - ηλ and α for SGD with L2, (1 + α)(1 - ηλ) and α(1 - ηλ) for Nesterov,
(1 - ηλ) + α and α(1 - ηλ) for momentum with decoupled decay. So c_n is a sum of two geometric
sequences. Momentum makes successive steps agree: n steps go further than √n times one, up to
√((1 + α)/(1 - α)) times that. A drift that all gradients share adds to it; on the papers' tasks
the random part dominates.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion import checks
from spherical_motion.checks import Number, not_negative, plain
from spherical_motion.theory.families import family_of
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.theory.settings import Array, without_dampening
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@checks.validated
def accumulated_angle(
    hp: HyperParameters, steps: Number, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Number:  # fmt: skip
    """Angle arccos c_n between weights `steps` apart, in equilibrium; radians, at most π/2.

    Exact for gradients of one size that are uncorrelated in time; Adam's two with a settled
    second moment. wan2020, figure 5, measures it over 4 and 16 steps.

    Args:
        hp, unit_grad_sq ... update_sq: as in `equilibrium_angle`.
        steps: n >= 0, a number or an array.

    Raises:
        OutOfDomain: negative or non-finite `steps`, or no equilibrium at `hp`.
        NoTheory: the steps' correlation over few lags is not known (Lion, Muon):
            `accumulated_angle_approx` holds over many.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> from spherical_motion.theory import equilibrium_angle
    >>> wider = HyperParameters("sgd", lr=0.4, weight_decay=1e-4, momentum=0.9)
    >>> round(accumulated_angle(hp, 4) / equilibrium_angle(wider), 2)
    1.88
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    n = not_negative("accumulated_angle", "steps", steps)
    family = family_of(hp)
    first = 2.0 * math.sin(family.angle(hp, facts) / 2.0) ** 2  # 1 - c_1, to all digits
    linear, constant = family.memory(without_dampening(hp), first)
    # Solve for u = z - 1, which is tiny for the slow root: u² + linear·u + constant = 0.
    root = complex(linear * linear - 4.0 * constant) ** 0.5
    fast = -(linear + root) / 2.0
    slow = constant / fast
    # c_n - 1 = (s^n - 1) - (s + c_1 - 1)·(s^n - f^n)/(s - f), s and f counted from 1.
    gone = -_power_minus_one(slow, n) + (slow + first) * _divided_difference(fast, slow, n)
    return plain(_angle(np.clip(gone.real, 0.0, 2.0) + 0.0))


@checks.validated
def accumulated_angle_approx(
    hp: HyperParameters, steps: Number, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Number:  # fmt: skip
    """arccos e^{-n·forgetting_rate}: any family, n well beyond the optimizer's memory; radians.

    For heavy ball it exceeds `accumulated_angle` by a share α/((1 - α²)n).

    >>> hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
    >>> round(accumulated_angle_approx(hp, 1000), 3), round(accumulated_angle(hp, 1000), 3)
    (0.44, 0.438)
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    n = not_negative("accumulated_angle_approx", "steps", steps)
    return plain(_angle(-np.expm1(-n * family_of(hp).forgetting_rate(hp, facts))))


@checks.validated
def forgetting_rate(
    hp: HyperParameters, *, unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """Rate per step at which the mean cosine with past weights decays; leading order in ηλ.

    What is left of a past direction shrinks as the norm would without a gradient: SGD with L2
    ηλ/(1 - α), decoupled decay ηλ, Adam with L2 ηλ|w*|/σ. Raises what `relaxation_rate` raises.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> round(forgetting_rate(hp) * 10_000, 6)
    1.0
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return family_of(hp).forgetting_rate(hp, facts)


def _power_minus_one(u: complex, n: Array) -> NDArray[np.complex128]:
    """(1 + u)^n - 1 without losing the digits of a small u."""
    if abs(u) > 0.5:
        return np.asarray((1.0 + u) ** n.astype(np.complex128) - 1.0)
    size = 0.5 * math.log1p(u.real * (2.0 + u.real) + u.imag * u.imag)
    return np.expm1(n * complex(size, math.atan2(u.imag, 1.0 + u.real)))


def _divided_difference(u: complex, v: complex, n: Array) -> NDArray[np.complex128]:
    """[(1 + u)^n - (1 + v)^n]/(u - v), also where both are nearly or wholly the same."""
    if abs(1.0 + u) > abs(1.0 + v):
        u, v = v, u  # divided by the power of the larger one, nothing overflows
    if abs(u - v) > 0.5:
        return (_power_minus_one(u, n) - _power_minus_one(v, n)) / (u - v)
    if 1.0 + v == 0.0:  # both are -1
        return (n == 1.0).astype(np.complex128)
    apart = (u - v) / (1.0 + v)
    power = (1.0 + _power_minus_one(v, n)) / (1.0 + v)
    return power * (_power_minus_one(apart, n) / apart if apart else n)


def _angle(lost: Array) -> Array:
    """The angle whose cosine is 1 - lost."""
    return 2.0 * np.arcsin(np.sqrt(lost / 2.0))
