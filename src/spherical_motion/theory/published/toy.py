"""Weight decay and normalization in a problem small enough to solve (Li & Arora, 2020, section 3).

The last layer of a network: inputs x standard normal in m dimensions, labels y = sign(x_1), the
loss ln(1 + e^{-y<x, w>}), with <x, w>/|w| in the place of <x, w> where it is normalized. The
perfect classifier is e_1, the error angle(w, e_1)/π. Three cases:

1. decay alone: the objective is strictly convex and its minimum lies on e_1, at |w| = c;
2. normalization alone: the norm grows, the effective rate η/|w|² falls, and the angle goes to 0;
3. both: the norm comes to rest, the effective rate stops falling, and so does the angle.

The cases differ in the gradient *at* e_1. A normalized layer cannot grow the margin, so each input
still pulls with |g̃|² = s²·|x⊥|², s = 1/(1 + e^{|x_1|}), and L = E|g̃|² = (m - 1)·E[s²] > 0. The
curvature of the mean loss along the sphere is H = E[s(1 - s)] + E[s·|x_1|] = (2π)^{-1/2}, by
integration by parts. With η_e = η/|w|², a step shrinks the offset θ from e_1 by the share η_e·H and
adds η_e²·L to θ²; where η_e changes slowly, mean θ² = η_eL/(2H). The library, not the paper,
derives the figures below from this, unless they cite it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from spherical_motion import checks
from spherical_motion.checks import Array, Number, above_zero, number, numbers_in, plain
from spherical_motion.errors import OutOfDomain

CURVATURE = 1.0 / math.sqrt(2.0 * math.pi)
"""H, at e_1."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@checks.validated
def toy_unit_grad_sq(dimension: int) -> float:
    """L = E|g̃|² of one input at the perfect classifier, (m - 1)·E[(1 + e^{|z|})^{-2}].

    >>> round(toy_unit_grad_sq(2), 4)
    0.1185
    """
    number("toy_unit_grad_sq", "dimension", dimension, least=2.0, error=OutOfDomain)
    return (dimension - 1) * _half_normal(lambda z: _logistic(-z) ** 2)


@checks.validated
def toy_decayed_norm(weight_decay: float) -> float:
    """Case 1: the norm c of the minimum with decay alone, λc = E[|z|/(1 + e^{c|z|})].

    It lies on e_1, with zero error, for any λ > 0. Gradient descent reaches it; SGD comes the
    closer the smaller its learning rate is (Li & Arora, 2020, section 3, case 1).

    Raises OutOfDomain: weight_decay is not finite and > 0; without it c is infinite.

    >>> c = toy_decayed_norm(0.01)
    >>> round(c, 3)
    3.773
    """
    number("toy_decayed_norm", "weight_decay", weight_decay, above=0.0, error=OutOfDomain)

    def pull(c: float) -> float:
        return _half_normal(lambda z: z * _logistic(-c * z), reach=40.0 / max(c, 4.0))

    # pull falls from E|z|/2 and λc rises from 0: they cross once, below E|z|/(2λ).
    low, high = 0.0, 0.5 / weight_decay
    for _ in range(200):
        middle = 0.5 * (low + high)
        if pull(middle) > weight_decay * middle:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@checks.validated
def toy_normalized_angle(dimension: int, steps: Number) -> Number:
    """Case 2: root mean square angle to e_1 after `steps` steps with normalization alone.

    |w|⁴ grows by 2η²L a step, as in the paper, so η_e = (2Lt)^{-1/2} whatever η, and
    mean θ² = √(L/(8t))/H: the error falls as t^{-1/4}. Leading order, once |w|⁴ is large against
    its start and η_eH is small.

    >>> toy_normalized_angle(10, [1e4, 1.6e5]).round(3).tolist()
    [0.096, 0.048]
    """
    time = above_zero("toy_normalized_angle", "steps", steps)
    return plain(np.sqrt(np.sqrt(toy_unit_grad_sq(dimension) / (8.0 * time)) / CURVATURE))


@checks.validated
def toy_resting_angle(lr: Number | float, weight_decay: Number | float, dimension: int) -> Number:
    """Case 3: root mean square angle to e_1 in the long run, with normalization and decay.

    In balance η_e²L = 2ηλ, so mean θ² = √(ηλL/2)/H: it does not fall any more, and grows as
    (ηλ)^{1/4}. Leading order; valid for η_eH = H·√(2ηλ/L) ≪ 1 and θ ≪ 1.

    Raises OutOfDomain: lr or weight_decay is not finite and > 0.

    >>> round(float(toy_resting_angle(0.1, 1e-3, 10)), 3)
    0.135
    """
    eta = above_zero("toy_resting_angle", "lr", lr)
    lam = above_zero("toy_resting_angle", "weight_decay", weight_decay)
    drive = toy_unit_grad_sq(dimension)
    return plain(np.sqrt(np.sqrt(eta * lam * drive / 2.0) / CURVATURE))


@checks.validated
def escape_bound(
    lr: float, weight_decay: float, *, norm: float, dimension: int, angle: float, failure: float
) -> float:
    """Steps within which case 3 leaves a cone about e_1 at least once, with probability 1 - δ.

    Theorem 3.1 of Li & Arora (2020): ln(32|w|²ε/(η√m)) / (2(ηλ - 2ε²)) + 6·ln(1/δ), the first
    term at least 0. In the cone decay shrinks the norm faster than it grows; once it is small
    enough, one input in six moves the weights out. The paper calls ε the training error; its
    proof is for the angle, which is π times that.

    Args:
        lr, weight_decay: η and λ, > 0.
        norm: |w| at the start, > 0.
        dimension: m >= 2.
        angle: ε, half-width of the cone in radians, with 0 < 2ε² < ηλ.
        failure: δ, in (0, 1).

    Raises OutOfDomain: outside these ranges.

    >>> round(escape_bound(0.1, 0.1, norm=1.0, dimension=10, angle=0.05, failure=0.01), 1)
    189.8
    """
    where = "escape_bound"
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("norm", norm)):
        number(where, name, value, above=0.0, error=OutOfDomain)
    number(where, "dimension", dimension, least=2.0, error=OutOfDomain)
    number(where, "failure", failure, above=0.0, below=1.0, error=OutOfDomain)
    if not 0.0 < 2.0 * angle**2 < lr * weight_decay:
        widest = math.sqrt(lr * weight_decay / 2.0)
        raise OutOfDomain(
            f"{where}(angle=...) must lie in (0, √(lr·weight_decay/2)) = (0, {widest:.4g}), got "
            f"{angle}: in a wider cone the weights may stay for good."
        )
    shrink = math.log(32.0 * angle) + 2.0 * math.log(norm)
    shrink -= math.log(lr) + 0.5 * math.log(dimension)
    wait = max(0.0, shrink) / (2.0 * (lr * weight_decay - 2.0 * angle**2))
    return wait - 6.0 * math.log(failure)


@checks.validated
def narrowest_well(
    lr: Number | float, weight_decay: Number | float, momentum: Number | float = 0.0
) -> Number:
    """√(2ηλ/(1 + α)): a minimum of smaller diameter, in radians, holds no iterate for long.

    Corollary 2.2 of wan2020: wherever the norm has stopped drifting it is the RMS step of SGD with
    L2 (an identity for any loss; Li & Arora, 2020, B.2), and an iterate that stays inside takes no
    step longer than the diameter. A wider well may hold the iterate or not.

    Raises OutOfDomain: lr or weight_decay is not finite and > 0, momentum outside [0, 1).

    >>> round(float(narrowest_well(0.1, 1e-4, 0.9)), 6)
    0.003244
    """
    where = "narrowest_well"
    eta, lam = above_zero(where, "lr", lr), above_zero(where, "weight_decay", weight_decay)
    alpha = numbers_in(where, "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    return plain(np.sqrt(2.0 * eta * lam / (1.0 + alpha)))


def _half_normal(function: Callable[[Array], Array], reach: float = 10.0) -> float:
    """E[f(|z|)] for a standard normal z, of an f that is smooth, and gone beyond `reach`."""
    z = 0.5 * reach * (_NODES + 1.0)
    density = math.sqrt(2.0 / math.pi) * np.exp(-0.5 * z * z)
    return float(0.5 * reach * np.sum(_WEIGHTS * density * function(z)))


def _logistic(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))
