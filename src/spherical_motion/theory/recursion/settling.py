"""How many steps of the recursion until the angle stays near Δ*.

Directly, step by step, where that is short: near and beyond the critical ηλ, where norm and buffer
swing about each other, and for every start close to rest.

For small ηλ there may be 10¹² steps. There the linear law's count T₀ = ln[(y₀ - 1)/(y - 1)]/r is
wrong by a few times 1/(1 - α), and the error is a smooth function of ηλ at given momentum and start
(the slow motion is a series in ηλ, and the fast one is over long before the end). So it is counted
directly at four larger ηλ and extrapolated. Close to momentum 1 these counts are long, too; times
1 - α they are smooth in 1 - α at given ηλ/critical, and are extrapolated from smaller momenta.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from spherical_motion.theory.recursion.step import Recursion, Start, linear_part, rested
from spherical_motion.theory.recursion.walk import Walk

MOST = 100_000
"""Steps that are taken one by one; what is not settled then is taken to go on as near rest."""

SHORT = 10_000
"""Steps by the linear law up to which they are taken one by one in any case."""

NODES = (0.12, 0.09, 0.06, 0.04)
"""Shares of the critical ηλ from which smaller ones are extrapolated, ..."""

LARGEST_NODE = 0.01
"""... the largest of them at most this ηλ."""

LARGEST_TURN = 0.05
"""|d|²/|w|² up to which a start is smooth in ηλ."""

HEAVY = 1e4
"""Excess above which the gradient does not matter and the norm fades by itself."""

CLOSE = 0.01
"""Share of Δ* within which the motion is linear."""

TINY_SHARE = 1e-10
"""Share of the critical ηλ below which the linear law is exact, for a start without leaps."""

LEAST = 1e-100
"""ηλ below which the products of the recursion may underflow."""

LIGHT = 0.1
"""Excess below which a norm leaps while the buffer fills."""

FAR = 0.01
"""1 - α below which counts are extrapolated in 1 - α, ..."""

NEARER = (0.03, 0.02, 0.015)
"""... from these values of it."""

MEMORIES = 40.0
"""Times 1/(1 - α) after which nothing is left of a start that does not swing."""

NEUTRAL = 1e-12
"""Rate per step below which deviations do not shrink."""

LARGEST = 1e300
"""An excess that does not overflow."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settling:
    """One rule at one setting, and the share of Δ* that counts as near."""

    rule: Recursion
    a: float
    momentum: float
    within: float
    most: float = math.inf

    @property
    def rate(self) -> float:
        """Leading order of the rate at which |w|⁴ relaxes."""
        return self.rule.rate(self.a, self.momentum)

    @property
    def angle(self) -> float:
        """Δ*."""
        return self.rule.angle(self.a, self.momentum)

    def near(self, excess: float) -> bool:
        """Whether the angle of a group that rested at this excess is within the share of Δ*."""
        rest = self.angle
        angle = math.atan2(math.sin(rest), math.cos(rest) * math.sqrt(excess))
        return abs(angle - rest) <= self.within * rest

    def by_linear_law(self, start: float) -> float:
        """Steps by dy/dt = r(1 - y), until tan Δ = tan Δ*·y^{-1/2} is near."""
        rest = self.angle
        side = 1.0 - self.within if start > 1.0 else 1.0 + self.within
        target = (math.tan(rest) / math.tan(rest * side)) ** 2
        if not (start - 1.0) / (target - 1.0) > 1.0:
            return 0.0
        return math.log((start - 1.0) / (target - 1.0)) / self.rate


def steps_to_settle(
    rule: Recursion,
    a: float,
    momentum: float,
    excess: float,
    within: float,
    most: float = math.inf,
) -> float:
    """Steps after which the angle stays within a share of Δ*; inf if it never does.

    Args:
        rule: the family's recursion.
        a: ηλ, where an equilibrium exists.
        momentum: α.
        excess: |w|⁴/|w*|⁴ of a group that rested under another learning rate.
        within: share of Δ*, in (0, 1).
        most: counts beyond this may be returned as inf.
    """
    motion = Settling(rule, a, momentum, within, most)
    critical, gap = rule.critical(momentum), 1.0 - momentum
    if a >= critical:
        return _stepped(motion, rested(rule, a, momentum, excess))
    if motion.near(excess):
        return 0.0
    if a < TINY_SHARE * critical and (excess > a / TINY_SHARE or a < LEAST):
        return motion.by_linear_law(excess)
    if excess > HEAVY:
        lost = -4.0 * math.log1p(-rule.fading(a, momentum))
        faded = math.log((excess - 1.0) / (HEAVY - 1.0)) / lost
        return faded + steps_to_settle(rule, a, momentum, HEAVY, within)
    if within < CLOSE:
        wide = dataclasses.replace(motion, within=CLOSE)
        pace = motion.rate if motion.rate < NEUTRAL**0.75 else _pace(rule, a, momentum)[0]
        more = (motion.by_linear_law(excess) - wide.by_linear_law(excess)) * motion.rate / pace
        return steps_to_settle(rule, a, momentum, excess, CLOSE) + more
    if gap < FAR:
        share = a / critical
        return _extrapolated(
            lambda node: node * steps_to_settle(
                rule, share * rule.critical(1.0 - node), 1.0 - node, excess, within
            ),
            NEARER,
            gap,
        ) / gap  # fmt: skip
    first = min(NODES[0] * critical, LARGEST_NODE)
    if a > first * NODES[-1] / NODES[0] or motion.by_linear_law(excess) < SHORT:
        return _stepped(motion, rested(rule, a, momentum, excess))
    smallest = max(2.0 * first / (1.0 + momentum) / LARGEST_TURN, LIGHT)
    if excess < smallest:
        return _from_light(motion, excess, smallest)
    return motion.by_linear_law(excess) + _extrapolated(
        lambda node: _error_of_linear_law(
            dataclasses.replace(motion, a=node, most=math.inf), excess
        ),
        [first * share / NODES[0] for share in NODES],
        a,
    )


def _error_of_linear_law(motion: Settling, excess: float) -> float:
    start = rested(motion.rule, motion.a, motion.momentum, excess)
    return _stepped(motion, start) - motion.by_linear_law(excess)


def _from_light(motion: Settling, excess: float, smallest: float) -> float:
    """From a norm so small that the first steps leap: these are taken one by one."""
    rule, a, m = motion.rule, motion.a, motion.momentum
    memory = math.ceil(MEMORIES / 2.0 / (1.0 - m))
    taken, now = 0, rested(rule, a, m, excess)
    while taken < SHORT and (taken == 0 or now.x * now.x < smallest):
        now, taken = _advanced(motion, now, memory), taken + memory
    reached = now.x * now.x
    if reached > 1.0:  # it leapt beyond its rest
        return taken + steps_to_settle(rule, a, m, min(reached, LARGEST), motion.within)
    # From there on the buffer is not that of a group at rest, which gives a start of some steps.
    ahead = _advanced(motion, now, memory).x ** 2
    behind = _advanced(motion, rested(rule, a, m, reached), memory).x ** 2
    lead = math.log((behind - 1.0) / (ahead - 1.0)) / motion.rate
    slow = 0.0
    if reached < smallest:
        slow, reached = math.log((reached - 1.0) / (smallest - 1.0)) / motion.rate, smallest
    return max(taken - lead + slow + steps_to_settle(rule, a, m, reached, motion.within), 0.0)


def _advanced(motion: Settling, start: Start, steps: int) -> Start:
    """The state so many steps later."""
    rule, a, m = motion.rule, motion.a, motion.momentum
    return Walk(rule.rows(a, m), rule.push(a, m)).advanced(start, steps)


def _extrapolated(function: Callable[[float], float], nodes: Sequence[float], at: float) -> float:
    """The polynomial through `function` at the nodes, there (Neville)."""
    values = [function(node) for node in nodes]
    for gap in range(1, len(nodes)):
        for i in range(len(nodes) - gap):
            low, high = nodes[i], nodes[i + gap]
            values[i] = ((at - high) * values[i] - (at - low) * values[i + 1]) / (low - high)
    return values[0]


def _stepped(motion: Settling, start: Start) -> float:
    """Steps until the angle stays near, one by one; between steps by the straight line."""
    rule, a, m = motion.rule, motion.a, motion.momentum
    rest = motion.angle
    # cot Δ·|cot Δ| falls as the angle grows, and takes no root.
    low, high = _cot_sq(rest * (1.0 + motion.within)), _cot_sq(rest * (1.0 - motion.within))
    pace, swing = _pace(rule, a, m)
    watch = 3.0 / pace + swing if pace > 0.0 else math.inf
    if a < rule.critical(m) / 4.0:  # nothing swings: what happens happens at the start
        watch = min(watch, MEMORIES / (1.0 - m))
    walk = Walk(rule.rows(a, m), rule.push(a, m))
    settled, crossing, outside, now = walk.until_near(start, low, high, watch, motion.most, MOST)
    if settled:
        return crossing
    if not pace > NEUTRAL:
        return math.inf if outside else crossing
    # What is left of the excess shrinks at this pace, on average over a swing.
    off = 0.0
    for _ in range(1 + math.ceil(min(swing, SHORT))):
        now = walk.advanced(now, 1)
        off = max(off, abs(now.x * now.x - 1.0) / (2.0 * motion.within))
    return MOST + math.log(off) / pace if off > 1.0 else crossing


def _cot_sq(angle: float) -> float:
    if angle >= math.pi:
        return -math.inf
    cot = math.cos(angle) / math.sin(angle)
    return cot * abs(cot)


@functools.lru_cache(maxsize=1024)
def _pace(rule: Recursion, a: float, momentum: float) -> tuple[float, float]:
    """(rate at which the slowest deviation from rest shrinks, steps in a swing), per step."""
    roots = np.linalg.eigvals(linear_part(rule, a, momentum))
    size, turn = float(np.abs(roots).max()), float(np.abs(np.angle(roots)).max())
    pace = -math.log(size) if size > 0.0 else math.inf
    longest = 3.0 / pace if pace > 0.0 else math.inf
    return pace, min(2.0 * math.pi / turn, longest) if turn > 0.0 else 0.0
