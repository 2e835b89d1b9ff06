"""One step of |w|², of the buffer's product with the weights, and of its length.

The buffer is written as a step, z = -ηv. With x = |w|², p = <w, z>, q = |z|² before a step and the
push g = H/x, H = η²h̃, every rule of SGD makes

    (<w, d>, |d|², p', q') = coefficients · (x, p, q, g),    x' = x + 2<w, d> + |d|²,

exact for a constant drive. x is in units of its value at rest, so that H is ηλ over the family's
`norm_share`, and nothing but ηλ, the momentum and Nesterov's overlap is left of the settings.

This is wan2021's eq. 186 in variables that keep the digits of a small step. It is not linear, since
the push falls as x grows; near rest its linear part is `linear_part`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from spherical_motion.checks import Array

Row: TypeAlias = tuple[float, float, float, float]


Rows: TypeAlias = tuple[Row, Row, Row, Row]
Setting: TypeAlias = Callable[[float, float], float]
"""A number that ηλ and the momentum fix."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recursion:
    """What a family of SGD knows of its recursion, as functions of ηλ and the momentum.

    Attributes:
        rows: coefficients of <w, d>, |d|², p' and q'.
        push: H, in units of |w*|⁴.
        angle: Δ*.
        rate: leading order of the rate at which |w|⁴ relaxes, per step.
        fading: share of |w| that is lost in a step without gradients, for ηλ below critical.
        critical: ηλ beyond which norm and buffer oscillate; of the momentum alone.
        limit: ηλ below which an equilibrium exists; of the momentum alone.
    """

    rows: Callable[[float, float], Rows]
    push: Setting
    angle: Setting
    rate: Setting
    fading: Setting
    critical: Callable[[float], float]
    limit: Callable[[float], float]


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """State before a step: |w|², <w, z> and |z|², in units of |w*|²."""

    x: float
    p: float
    q: float


def linear_part(rule: Recursion, a: float, momentum: float) -> Array:
    """The linear part of the map (x, p, q) at rest, shape (3, 3)."""
    rows = np.array(rule.rows(a, momentum))
    felt = rows[:, :3].copy()
    felt[:, 0] -= rows[:, 3] * rule.push(a, momentum)  # the push falls as x grows
    along, length, product, square = felt
    return np.array([np.array([1.0, 0.0, 0.0]) + 2.0 * along + length, product, square])


def rested(rule: Recursion, a: float, momentum: float, excess: float) -> Start:
    """The state of a group that rested at this excess |w|⁴/|w*|⁴, under another learning rate.

    That rate is k times the one now. Under it |w*|⁴ is k·share(kηλ)/share(ηλ) as large, with share
    = ηλ/H, which fixes k.
    """
    share = a / rule.push(a, momentum)

    def reached(k: float) -> float:
        return k * (k * a / rule.push(k * a, momentum)) / share

    low, high = math.log(sys.float_info.min), math.log(rule.limit(momentum) / a) - 1e-9
    for _ in range(80):
        middle = 0.5 * (low + high)
        last = middle in (low, high)  # no number lies between them
        k = math.exp(middle)
        if a * k > 0.0 and reached(k) > excess:
            high = middle
        else:
            low = middle
        if last:
            break
    k = math.exp(low)
    p, q = _buffer_at_rest(rule.rows(k * a, momentum), rule.push(k * a, momentum))
    x = math.sqrt(excess)
    return Start(x, p / k * x, q / k / k * x)


def _buffer_at_rest(rows: Rows, push: float) -> tuple[float, float]:
    """(p, q) at x = 1 that a step leaves as they are: x' = x and p' = p."""
    along, length, product, _ = rows
    stays = [2.0 * c + d for c, d in zip(along, length, strict=True)]
    moved = list(product)
    moved[1] -= 1.0
    known = [-(row[0] + row[3] * push) for row in (stays, moved)]
    det = stays[1] * moved[2] - stays[2] * moved[1]
    if det == 0.0:  # no momentum carries anything over
        return 0.0, 0.0
    p = (known[0] * moved[2] - stays[2] * known[1]) / det
    q = (stays[1] * known[1] - known[0] * moved[1]) / det
    return p, q


def heavy_ball_rows(a: float, momentum: float) -> Rows:
    """z' = αz - ηg - aw, d = z'."""
    m = momentum
    square = (a * a, -2.0 * a * m, m * m, 1.0)
    along = (-a, m, 0.0, 0.0)
    return along, square, _sum(along, square), square


def nesterov_rows(a: float, momentum: float, overlap: float) -> Rows:
    """z' = αz + π, π = -ηg - aw, d = π + αz'; <z, -ηg> is the overlap times the push."""
    m = momentum
    fresh = (a * a, 0.0, 0.0, 1.0)  # |π|²
    carried = (0.0, -a, 0.0, overlap)  # <z, π>
    shared = _sum(fresh, carried, m)  # <z', π>
    square = _sum(_sum(fresh, carried, 2.0 * m), (0.0, 0.0, 1.0, 0.0), m * m)
    seen = (-a, m, 0.0, 0.0)  # <w, z'>
    along = _sum((-a, 0.0, 0.0, 0.0), seen, m)
    length = _sum(_sum(fresh, shared, 2.0 * m), square, m * m)
    return along, length, _sum(_sum(seen, shared), square, m), square


def decoupled_rows(a: float, momentum: float) -> Rows:
    """z' = αz - ηg, d = z' - aw."""
    m = momentum
    square = (0.0, 0.0, m * m, 1.0)
    length = _sum((a * a, -2.0 * a * m, 0.0, 0.0), square)
    return (-a, m, 0.0, 0.0), length, _sum((0.0, (1.0 - a) * m, 0.0, 0.0), square), square


def _sum(first: Row, second: Row, times: float = 1.0) -> Row:
    a, b, c, d = (x + times * y for x, y in zip(first, second, strict=True))
    return a, b, c, d


def smaller_root(b: float, c: float) -> float:
    """The smaller root of u² - bu + c = 0, without cancellation."""
    return 2.0 * c / (b + math.sqrt(max(b * b - 4.0 * c, 0.0)))
