"""Compiled loops over groups: factors and next state from inner products, for AdaGradG and AdamG.

They compute `AdaGradG._turn` and `AdamG._turn`, the reference, one group at a time: so a group's
factors are there while its weights are still in the cache.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import NamedTuple

import numba

X_X, X_G, X_M, M_X, M_G, M_M = range(6)
"""Columns of `factors`, in the order of `Factors`."""


class AdaGradGNumbers(NamedTuple):
    """Settings of AdaGradG as its formulas take them.

    The step is rate/√v, then v ← keep·v + gain·|g̃|², and the first v is
    of_norm·|x|⁴ + of_unit·|g̃|² + fixed. A radius of 0 means the norm at the first step; `plain` is
    the factor of the gradient at norm 0.
    """

    rate: float
    keep: float
    gain: float
    of_norm: float
    of_unit: float
    fixed: float
    radius: float
    sign: float
    plain: float


class AdamGNumbers(NamedTuple):
    """Settings of AdamG; the last three as of `AdaGradGNumbers`."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    radius: float
    sign: float
    plain: float


@numba.njit(nogil=True)
def turn_adagrad_g(numbers, moments, radii, can_turn, active, sums, factors, start, stop):
    """Write the first two factors of groups `start:stop`, and their next moments and radii.

    `numbers` is an `AdaGradGNumbers`; state and flags are (groups,), sums and factors (groups, 6).
    """
    rate, keep, gain, of_norm, of_unit, fixed, radius, sign, plain = numbers
    for i in range(start, stop):
        factors[i] = 0.0
        factors[i, X_X] = 1.0
        if not active[i]:
            continue
        xx, xg, gg = sums[i, 0], sums[i, 1], sums[i, 2]
        square = xx if xx > 0.0 else 1.0
        unit_sq = xx * _positive(gg - xg * xg / square)
        moment = moments[i]
        if not moment > 0.0:
            moment = of_norm * xx * xx + of_unit * unit_sq + fixed
        turn = rate / sqrt(moment if moment > 0.0 else inf) if can_turn[i] else 0.0
        moments[i] = keep * moment + gain * unit_sq
        if not xx > 0.0:
            radii[i], factors[i, X_G] = 0.0, plain
            continue
        radii[i] = _radius(radius, radii[i], sqrt(xx))
        scale = radii[i] / sqrt(xx * (1.0 + turn * turn * unit_sq))
        factors[i, X_X] = scale * (1.0 + sign * turn * xg)
        factors[i, X_G] = -sign * scale * turn * xx


@numba.njit(nogil=True)
def turn_adam_g(numbers, moments, radii, steps, can_turn, active, sums, factors, start, stop):
    """Write all factors of groups `start:stop`, and their next state; see `turn_adagrad_g`."""
    lr, beta1, beta2, eps, radius, sign, plain = numbers
    for i in range(start, stop):
        factors[i] = 0.0
        if not active[i]:
            factors[i, X_X] = factors[i, M_M] = 1.0
            continue
        xx, xg, gg, xm, mm, mg = sums[i]
        if not xx > 0.0:
            moments[i] = radii[i] = steps[i] = 0.0
            factors[i, X_X], factors[i, X_G] = 1.0, plain
            continue
        norm = sqrt(xx)
        u_g = sign * (1.0 - beta1) * norm
        u_x = -beta1 * xm / xx - u_g * xg / xx
        m_sq = _positive(mm - xm * xm / xx)
        g_sq = _positive(gg - xg * xg / xx)
        both = mg - xm * xg / xx
        length_sq = _positive(beta1**2 * m_sq + 2.0 * beta1 * u_g * both + u_g**2 * g_sq)

        steps[i] += 1.0
        moments[i] = beta2 * moments[i] + (1.0 - beta2) * xx * g_sq
        size = sqrt(moments[i] / (1.0 - beta2 ** steps[i])) + eps
        rate = lr / (1.0 - beta1 ** steps[i]) / size if can_turn[i] else 0.0

        stretch = sqrt(1.0 + rate * rate * length_sq)
        radii[i] = _radius(radius, radii[i], norm)
        factors[i, X_X] = radii[i] / stretch * (1.0 / norm - rate * u_x)
        factors[i, X_G] = -radii[i] / stretch * rate * u_g
        if can_turn[i]:
            factors[i, X_M] = -radii[i] / stretch * rate * beta1
            factors[i, M_X] = (rate * length_sq / norm + u_x) / stretch
            factors[i, M_G] = u_g / stretch
            factors[i, M_M] = beta1 / stretch


@numba.njit(nogil=True)
def _positive(x):
    """As `Tensor.clamp(min=0)`: NaN stays."""
    return 0.0 if x < 0.0 else x


@numba.njit(nogil=True)
def _radius(given, kept, norm):
    if given > 0.0:
        return given
    return kept if kept > 0.0 else norm
