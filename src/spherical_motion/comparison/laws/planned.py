"""The rates really used against those that were planned: from which step they differ, and how.

A scheduler that is stepped N times as often as planned uses at step t the rate planned for N·t, one
that is stepped once in n steps the rate planned for t/n, one that runs k steps late the rate
planned for t - k. Each of these is a map from steps to planned steps, and is tested as such: it
must explain every step whose planned step exists.

A rate counts as planned if it lies between those planned for the step before and the step after.
So a schedule that begins or ends one step otherwise, as definitions of warm-up and cosine do, is no
finding.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records import Records
from spherical_motion.vocabulary import Schedule

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

RELATIVE, ABSOLUTE = 1e-4, 1e-7
"""How far a rate may lie outside: of itself, and of the largest planned rate."""

MOST_TIMES = 64
"""A scheduler is looked for that is stepped up to so many times a step."""

LOOKED_AT = 16
"""Steps by which shifts are chosen, and shifts that are tested."""

FEWEST_EXPLAINED = 10
"""Steps that differ from the plan and that an explanation must explain, if there are so many."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How the rates that were used follow from the planned ones.

    Attributes:
        times: how many times as often as planned the scheduler was stepped: 2 for twice, 0.1 for
            once in ten steps, 0 for never; NaN if that does not explain the rates.
        late: by how many steps the schedule ran late, negative for early; 0 if that does not
            explain the rates.
        factor: the rates are this times the planned ones, beside `times` and `late`; 1 if as they
            are; NaN if nothing explains them.
        since: the step since which this holds; None if nothing explains them.
    """

    times: float = math.nan
    late: int = 0
    factor: float = math.nan
    since: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The rates of one group beside the plan.

    Attributes:
        steps: steps that both have.
        differing: steps at which the learning rate is not the planned one.
        first, last: the first and the last of them; None if there is none.
        planned, used: both rates at the step at which they lie farthest apart.
        farthest: that step.
        how: how the rates follow from the plan, as far as they do.
        weight_decay, momentum: (first step, planned, used) where these differ, or None.
    """

    steps: int
    differing: int = 0
    first: int | None = None
    last: int | None = None
    farthest: int | None = None
    planned: float = math.nan
    used: float = math.nan
    how: Explanation = Explanation()
    weight_decay: tuple[int, float, float] | None = None
    momentum: tuple[int, float, float] | None = None

    @property
    def as_planned(self) -> bool:
        """Whether every learning rate is the planned one."""
        return self.first is None


class PlannedRun:
    """The rates of all groups of a run beside its plan, worked out once a param group.

    Args:
        records: the run.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._found: dict[tuple[int, int, int], Planned] = {}
        self._asked: set[str] = set()

    def of(self, group: str, within: Records | None = None) -> Planned | None:
        """The rates of a group; None if the run has no plan, or no steps of it yet.

        Args:
            group: its name.
            within: a part of the run that holds it, if that is at hand.
        """
        records = self._records if within is None else within
        self._asked.add(group)
        plan, column = records.info.planned, records.index(group)
        if plan is None:
            return None
        known = np.flatnonzero(np.isfinite(records.lr[:, column]))
        if not known.size:
            return None
        param_group = records.info.slice_param_group[records.main_slices[column]]
        key = param_group, int(known[0]), int(known[-1])
        if key not in self._found:
            self._found[key] = compared(plan, records.schedule(group))
        return self._found[key]

    def alike(self, groups: Iterable[str]) -> None:
        """These groups have the rates of one that was asked for."""
        self._asked.update(groups)

    def meant(self, found: Planned) -> bool:
        """Whether rates that are not the planned ones are meant so.

        A plan speaks of the param groups whose rates it follows. Where there are some, another one
        is meant to have its own rates: a constant times the plan's, or others from the first step
        on that no use of the scheduler explains.
        """
        how = found.how
        if not math.isnan(how.times) or how.late or not self._some_as_planned:
            return False
        plan = self._records.info.planned
        at_once = plan is not None and found.first is not None and found.first <= plan.start
        return math.isfinite(how.factor) or at_once

    @functools.cached_property
    def _some_as_planned(self) -> bool:
        if any(plan.as_planned for plan in self._found.values()):
            return True
        left = (self.of(group) for group in self._records.groups if group not in self._asked)
        return any(plan.as_planned for plan in left if plan is not None)


def planned_rates(records: Records, group: str) -> Planned | None:
    """The rates of a group beside the run's plan; None if the run has no plan, or no steps yet."""
    return PlannedRun(records).of(group)


def compared(plan: Schedule, used: Schedule) -> Planned:
    """A plan beside the settings that were used; steps are counted as in both.

    >>> from spherical_motion.vocabulary import HyperParameters
    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> plan = Schedule.step_decay(hp, steps=300, milestones=[100, 200])
    >>> found = compared(plan, Schedule.step_decay(hp, steps=300, milestones=[50, 100]))
    >>> found.first, found.how.times
    (50, 2.0)
    """
    start = max(plan.start, used.start)
    stop = min(plan.start + plan.steps, used.start + used.steps)
    if stop <= start:
        return Planned(steps=0)
    at = np.arange(start, stop)
    rates = used.lr[at - used.start]
    differ = np.flatnonzero(~_fits(plan.lr, at - plan.start, rates))
    found = Planned(
        steps=len(at),
        weight_decay=_first_difference(plan, used, "weight_decay", at),
        momentum=_first_difference(plan, used, "momentum", at),
        differing=len(differ),
    )
    if not differ.size:
        return found
    gaps = np.abs(rates[differ] - plan.lr[at[differ] - plan.start])
    farthest = int(differ[np.argmax(gaps)])
    return dataclasses.replace(
        found,
        first=int(at[differ[0]]),
        last=int(at[differ[-1]]),
        farthest=int(at[farthest]),
        planned=float(plan.lr[at[farthest] - plan.start]),
        used=float(rates[farthest]),
        how=_explanation(plan.lr, rates, at - plan.start, differ, start),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A map from the compared steps to planned ones: anchor + times·(t - anchor) - late."""

    times: float = 1.0
    late: int = 0
    anchor: int = 0
    hold: int = 1

    def of(self, at: Ints) -> Ints:
        """The planned steps, which may lie past the plan's end."""
        ahead = np.maximum(at - self.anchor, 0)
        if self.late:
            return np.where(at < self.anchor, at, np.maximum(at - self.late, 0))
        if self.times >= 1.0:
            # A scheduler stepped once in `hold` steps skips from one such stretch to another.
            moved = self.hold * int(self.times) * (ahead // self.hold) + ahead % self.hold
        else:
            moved = ahead // round(1.0 / self.times) if self.times else np.zeros_like(ahead)
        return np.minimum(at, self.anchor) + moved


def _explanation(plan: Array, rates: Array, at: Ints, differ: Ints, start: int) -> Explanation:
    """The first way that contradicts no step; an empty one if all do.

    A constant times the plan from the first step on comes before all others: it explains every
    step, where a shift says nothing of steps that the plan does not have.
    """
    for factor in _factors(plan, rates, at, differ):
        if _fits(factor * plan, at, rates).all():
            return Explanation(factor=factor, since=start)
    ways = list(_ways(plan, rates, at, differ))
    same = Way(anchor=int(at[differ[0]]))
    for factor in (1.0, *_factors(plan, rates, at, differ)):
        for way in [same, *ways] if factor != 1.0 else ways:
            if _explains(plan, rates, at, differ, way, factor):
                return Explanation(
                    times=math.nan if way.times == 1.0 else way.times,
                    late=way.late,
                    factor=1.0 if abs(factor - 1.0) < RELATIVE else factor,
                    since=int(max(way.anchor - at[0], 0)) + start,
                )
    return Explanation()


def _factors(plan: Array, rates: Array, at: Ints, differ: Ints) -> Iterator[float]:
    """Factors worth testing: of the largest rates, and of those that differ."""
    if plan.max() > 0 and rates.max() > 0:
        yield float(rates.max() / plan.max())
    positive = differ[(plan[at[differ]] > 0) & (rates[differ] > 0)]
    if positive.size:
        yield float(np.median(rates[positive] / plan[at[positive]]))


def _explains(plan: Array, rates: Array, at: Ints, differ: Ints, way: Way, factor: float) -> bool:
    """Whether a way contradicts no step and explains enough of those that differ."""
    after = at >= way.anchor
    mapped = way.of(at[after])
    exist = mapped < len(plan)
    if not _fits(factor * plan, mapped[exist], rates[after][exist]).all():
        return False
    different = np.zeros(len(at), dtype=bool)
    different[differ] = True
    return int((different[after] & exist).sum()) >= min(FEWEST_EXPLAINED, len(differ))


def _ways(plan: Array, rates: Array, at: Ints, differ: Ints) -> Iterator[Way]:
    """Ways worth testing, the simplest first."""
    first = int(at[differ[0]])
    holds = list(dict.fromkeys([1, _period(plan)]))
    lags = _lags(plan, rates, at, differ)
    for anchor in dict.fromkeys([int(at[0]), max(first - 1, 0)]):
        yield Way(times=0.0, anchor=anchor)
        for times in range(2, MOST_TIMES + 1):
            for hold in holds:
                yield Way(times=float(times), anchor=anchor, hold=hold)
        if (each := _period(rates[anchor - at[0] :])) > 1:
            yield Way(times=1.0 / each, anchor=anchor)
        for late in lags:
            yield Way(late=late, anchor=anchor)
    # Stepped twice from some step on, a staircase differs only at its next stair.
    stairs = np.flatnonzero(np.diff(plan)) + 1
    later = stairs[stairs > first]
    for times in range(2, 9) if later.size else ():
        yield Way(
            times=float(times), anchor=max(round((times * first - later[0]) / (times - 1)), 0)
        )


def _lags(plan: Array, rates: Array, at: Ints, differ: Ints) -> list[int]:
    """Shifts that explain some of the differing steps, those that do so best first."""
    some = differ[np.linspace(0, len(differ) - 1, LOOKED_AT).astype(int)]
    lags = np.arange(-len(plan) + 1, len(plan))
    good, miss = np.abs(lags) > 1, np.zeros(len(lags))
    for i in some:
        planned_at = np.maximum(at[i] - lags, 0)
        inside = planned_at < len(plan)
        wanted = np.full(int(inside.sum()), rates[i])
        good[inside] &= _fits(plan, planned_at[inside], wanted)
        miss[inside] += np.abs(plan[planned_at[inside]] - wanted)
    found = np.flatnonzero(good)
    order = np.lexsort((np.abs(lags[found]), miss[found]))
    return lags[found[order]][:LOOKED_AT].tolist()


def _period(values: Array) -> int:
    """The number of steps of which every change is a multiple; 1 if values never change."""
    changes = np.flatnonzero(np.diff(values)) + 1
    return int(np.gcd.reduce(changes)) if changes.size else 1


def _fits(plan: Array, planned_at: Ints, rates: Array) -> NDArray[np.bool_]:
    """Whether each rate lies between those planned around its step."""
    last = len(plan) - 1
    around = [plan[np.clip(planned_at + k, 0, last)] for k in (-1, 0, 1)]
    low, high = np.minimum.reduce(around), np.maximum.reduce(around)
    slack = ABSOLUTE * plan.max()
    return (rates >= low * (1 - RELATIVE) - slack) & (rates <= high * (1 + RELATIVE) + slack)


def _first_difference(
    plan: Schedule, used: Schedule, name: str, at: Ints
) -> tuple[int, float, float] | None:
    values, found = getattr(plan, name), getattr(used, name)[at - used.start]
    differ = np.flatnonzero(~_fits(values, at - plan.start, found))
    if not differ.size:
        return None
    i = int(differ[0])
    return int(at[i]), float(values[at[i] - plan.start]), float(found[i])
