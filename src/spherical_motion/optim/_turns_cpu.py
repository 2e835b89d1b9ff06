"""Compiled loops over groups: factors and next state from inner products, for AdaGradG and AdamG.

The formulas are those of `AdaGradG._turn` and `AdamG._turn`, which are the reference, for one group
at a time. Compiled, a group's factors are there while its weights are still in the cache.
"""

from __future__ import annotations

from math import inf, sqrt

import numba

__all__ = ["turn_adagrad_g", "turn_adam_g"]


@numba.njit(nogil=True)
def turn_adagrad_g(numbers, moments, radii, can_turn, active, sums, factors, start, stop):
    """A and B of groups `start:stop`; the moments and radii move on.

    Args:
        numbers: (rate, keep, gain, of_norm, of_unit, fixed, radius, sign, plain): the step is
            rate/√v, then v ← keep·v + gain·|g̃|², and the first v is of_norm·|x|⁴ + of_unit·|g̃|² +
            fixed; radius is 0 for the norm at the first step; plain the factor of g at norm 0.
        moments, radii: (groups,), state.
        can_turn, active: (groups,), bool.
        sums, factors: (groups, 6).
        start, stop: which groups.
    """
    rate, keep, gain, of_norm, of_unit, fixed, radius, sign, plain = numbers
    for i in range(start, stop):
        factors[i] = 0.0
        factors[i, 0] = 1.0
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
            radii[i], factors[i, 1] = 0.0, plain
            continue
        radii[i] = _radius(radius, radii[i], sqrt(xx))
        scale = radii[i] / sqrt(xx * (1.0 + turn * turn * unit_sq))
        factors[i, 0] = scale * (1.0 + sign * turn * xg)
        factors[i, 1] = -sign * scale * turn * xx


@numba.njit(nogil=True)
def turn_adam_g(numbers, moments, radii, steps, can_turn, active, sums, factors, start, stop):
    """A to F of groups `start:stop`; the state moves on.

    Args:
        numbers: (lr, beta1, beta2, eps, radius, sign, plain); the last three as above.
        moments, radii, steps: (groups,), state.
        can_turn, active: (groups,), bool.
        sums, factors: (groups, 6).
        start, stop: which groups.
    """
    lr, beta1, beta2, eps, radius, sign, plain = numbers
    for i in range(start, stop):
        factors[i] = 0.0
        if not active[i]:
            factors[i, 0] = factors[i, 5] = 1.0
            continue
        xx, xg, gg, xm, mm, mg = sums[i]
        if not xx > 0.0:
            moments[i] = radii[i] = steps[i] = 0.0
            factors[i, 0], factors[i, 1] = 1.0, plain
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
        factors[i, 0] = radii[i] / stretch * (1.0 / norm - rate * u_x)
        factors[i, 1] = -radii[i] / stretch * rate * u_g
        if can_turn[i]:
            factors[i, 2] = -radii[i] / stretch * rate * beta1
            factors[i, 3] = (rate * length_sq / norm + u_x) / stretch
            factors[i, 4] = u_g / stretch
            factors[i, 5] = beta1 / stretch


@numba.njit(nogil=True)
def _positive(x):
    """As `Tensor.clamp(min=0)`: NaN stays."""
    return 0.0 if x < 0.0 else x


@numba.njit(nogil=True)
def _radius(given, kept, norm):
    if given > 0.0:
        return given
    return kept if kept > 0.0 else norm
