"""The recursion taken step by step: in plain Python, and compiled once it is asked for often.

Both run the same source, so that they agree to the last bit. Compiling takes as long as a few
hundred plain walks, and a forecast of one group never needs it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from spherical_motion.theory.recursion.step import Rows, Start

TINY = 1e-300
"""Keeps a step without any turn from dividing by 0."""

PLAIN = 400
"""So many walks are taken in plain Python before one is compiled."""

Found = tuple[bool, float, bool, float, float, float]
"""(settled, where the angle came near last, whether it is away, and the state x, p, q)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Walk:
    """The recursion at one setting.

    Attributes:
        rows: coefficients of <w, d>, |d|², p' and q' (`theory.recursion.step`).
        push: H, in units of |w*|⁴.
    """

    rows: Rows
    push: float

    def until_near(
        self, start: Start, low: float, high: float, watch: float, most: float, limit: int
    ) -> tuple[bool, float, bool, Start]:
        """Steps until cot Δ·|cot Δ| has stayed between two values.

        Args:
            start: the state to begin with.
            low, high: the two values.
            watch: for so many steps it must stay there.
            most: after so many steps it is not waited for that it comes near: inf.
            limit: steps at most.

        Returns:
            Whether it settled within `limit`, the step from which on it stayed (between steps by
            the straight line), whether it is away at the end, and the state there.
        """
        walk = _walk_of_choice()
        settled, crossing, outside, x, p, q = walk(
            *self.rows, self.push, start.x, start.p, start.q, low, high, watch, most, limit
        )
        return settled, crossing, outside, Start(x, p, q)

    def advanced(self, start: Start, steps: int) -> Start:
        """The state so many steps later."""
        (c0, c1, c2, c3), (d0, d1, d2, d3), (p0, p1, p2, p3), (q0, q1, q2, q3) = self.rows
        x, p, q = start.x, start.p, start.q
        for _ in range(steps):
            g = self.push / x
            c = c0 * x + c1 * p + c2 * q + c3 * g
            d = d0 * x + d1 * p + d2 * q + d3 * g
            p, q = p0 * x + p1 * p + p2 * q + p3 * g, q0 * x + q1 * p + q2 * q + q3 * g
            x += 2.0 * c + d
        return Start(x, p, q)


def walked(
    along: tuple, length: tuple, product: tuple, square: tuple, push: float, x: float, p: float,
    q: float, low: float, high: float, watch: float, most: float, limit: int,
) -> Found:  # fmt: skip
    """`Walk.until_near` with numbers alone, so that it can be compiled."""
    c0, c1, c2, c3 = along
    d0, d1, d2, d3 = length
    p0, p1, p2, p3 = product
    q0, q1, q2, q3 = square
    before, crossing, outside = math.nan, 0.0, True
    for number in range(limit):
        g = push / x
        c = c0 * x + c1 * p + c2 * q + c3 * g
        d = d0 * x + d1 * p + d2 * q + d3 * g
        ahead = x + c
        across = (d - c * c / x) * x
        value = ahead * abs(ahead) / (across if across > TINY else TINY)
        if not low <= value <= high:
            outside = True
            if number > most:
                return True, math.inf, outside, x, p, q
        elif outside:
            outside, edge = False, high if before > high else low
            crossing = float(number)
            if number and math.isfinite(before):
                crossing -= 1.0 - (before - edge) / (before - value)
        elif number - crossing > watch:
            return True, max(crossing, 0.0), outside, x, p, q
        before = value
        p, q = p0 * x + p1 * p + p2 * q + p3 * g, q0 * x + q1 * p + q2 * q + q3 * g
        x += 2.0 * c + d
    return False, crossing, outside, x, p, q


@functools.cache
def compiled_walk() -> Callable[..., Found]:
    """`walked`, compiled."""
    import numba  # it takes 0.3 s, and few ask for so many walks

    found: Any = numba.njit(nogil=True)(walked)
    return found


class _Count:
    """How many walks were taken."""

    taken = 0


def _walk_of_choice() -> Callable[..., Found]:
    _Count.taken += 1
    return walked if _Count.taken <= PLAIN else compiled_walk()
