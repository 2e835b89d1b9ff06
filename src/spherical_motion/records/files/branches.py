"""Which rows count of a run that went back to an earlier step and was resumed there.

Each resume writes an event with the step at which the run goes on and, per table, the number of
the next part. Rows in parts below that number, of that step or a later one, belong to a branch of
the run that was given up. Runs written before parts were numbered so have no such numbers, and
nothing of them is left out. Neither is anything where the run went on by itself after its end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument
from spherical_motion.records.files.events import MOST_STEPS, Event
from spherical_motion.vocabulary import EventKind

LASTING = (EventKind.RESUMED, EventKind.CLOSED)
"""Events that tell when a process wrote the run; they are of no branch."""

Steps = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Branch:
    """A run as it stood before one of its resumes.

    Attributes:
        number: `read(directory, branch=number)` reads it.
        first_step: where the run was resumed; what was recorded from there on was given up.
        last_step: its last recorded step, -1 if there is none.
        abandoned_rows: its rows from `first_step` on, which the run does not count any more.
    """

    number: int
    first_step: int
    last_step: int
    abandoned_rows: int


class Resume(NamedTuple):
    """A resume: its number among all of the run, its step, and the next part of each table."""

    number: int
    step: int
    parts: Mapping[str, int]
    gives_up: bool  # whether it gave up what had been recorded from its step on


class Branches:
    """The rows and events that belong to a run, or to the run as it once stood.

    Args:
        events: all events of the run, in order.
        number: which branch: the run before its resume of this number, counted from 0; None for
            the run as it is.

    Raises:
        InvalidArgument: there is no such branch, or its boundary is not known.

    >>> went_back = {"kind": "resumed", "step": 50, "segments": {"records": 3}}
    >>> run = Branches([went_back])
    >>> run.limit("records", 2), run.limit("records", 3)
    (50, None)
    >>> before = Branches([went_back], 0)
    >>> before.limit("records", 2), before.holds("records", 2), before.holds("records", 3)
    (None, True, False)
    """

    def __init__(self, events: Iterable[Event], number: int | None = None) -> None:
        events = tuple(events)
        self._all = _resumes(events)
        self._end: Resume | None = None
        if number is not None:
            self._end = self._named(number, events)
            events = events[: _place(events, number)]
        self._resumes = self._all if self._end is None else _resumes(events)
        self.events = _living(events)
        counts = [e["segments"] for e in events if e["kind"] in LASTING and e.get("segments")]
        own = [self._end.parts] if self._end else []
        self._counts: Sequence[Mapping[str, int]] = [*counts, *own]

    @property
    def resumes(self) -> tuple[Resume, ...]:
        """The resumes whose boundary is known."""
        return self._resumes

    def holds(self, table: str, number: int) -> bool:
        """Whether a part, by the number of its first segment, was there already."""
        return self._end is None or number < self._end.parts.get(table, number + 1)

    def written(self, table: str) -> int:
        """The parts of a table below this number had been written, as the events tell."""
        return max((parts.get(table, 0) for parts in self._counts), default=0)

    def limit(self, table: str, number: int) -> int | None:
        """The rows of a part from this step on were given up; None if all of them count."""
        later = (r.step for r in self._resumes if r.gives_up and number < r.parts.get(table, 0))
        return min(later, default=None)

    def kept(self, table: str, number: int, steps: Steps) -> NDArray[np.bool_] | None:
        """Which rows of a part count, by their steps; None if all do."""
        limit = self.limit(table, number)
        return None if limit is None else steps < limit

    def summaries(self, parts: Iterable[tuple[int, Steps]]) -> tuple[Branch, ...]:
        """The branches, from the number and the steps of each part of the rows."""
        last, rows = [-1] * len(self._all), [0] * len(self._all)
        for number, steps in parts:
            for i, resume in enumerate(self._all):
                if number < resume.parts.get("records", 0) and len(steps):
                    last[i] = max(last[i], int(steps.max()))
                    if not resume.gives_up:
                        continue
                    rows[i] += int(np.count_nonzero(steps >= resume.step))
                    steps = steps[steps < resume.step]
        every = zip(self._all, last, rows, strict=True)
        return tuple(Branch(r.number, r.step, end, count) for r, end, count in every)

    def is_as(self, other: Branches) -> bool:
        """Whether no resume came between them."""
        return self._all == other._all

    def _named(self, number: int, events: Sequence[Event]) -> Resume:
        checks.whole("read", "branch", number)
        for resume in self._all:
            if resume.number == number:
                return resume
        total = sum(event.get("kind") == EventKind.RESUMED for event in events)
        known = ", ".join(str(resume.number) for resume in self._all) or "none"
        raise InvalidArgument(
            f"read(branch=...) must be one of the branches of the run ({known}), got {number}. The "
            f"run was resumed {total} times; a branch is known if this version recorded the resume."
        )


def next_step_of(events: Sequence[Event], last_step: int) -> int:
    """Where a run goes on: where it was closed or last resumed, or past its last recorded step."""
    ends = [event for event in events if event["kind"] in LASTING]
    if not _ends_closed(events):
        known = [resume.step for resume in _resumes(ends[-1:])]
    else:
        counts = ends[-1].get("steps")
        known = [c for c in counts if _is_count(c)] if isinstance(counts, list) else []
    return min(max([last_step + 1, *known]), MOST_STEPS - 1)


def _resumes(events: Iterable[Event]) -> tuple[Resume, ...]:
    """The resumes whose boundary the event names."""
    every = [event for event in events if event["kind"] == EventKind.RESUMED]
    found = []
    for number, event in enumerate(every):
        step: Any = event.get("step")
        parts = event.get("segments")
        if _is_count(step) and isinstance(parts, dict) and all(map(_is_count, parts.values())):
            found.append(Resume(number, int(step), parts, event.get("gives_up", True) is not False))
    return tuple(found)


def _living(events: Iterable[Event]) -> tuple[Event, ...]:
    """The events without those about steps that were given up.

    One at the very step of the resume stays: it may tell what was done before that step. So do all
    where the run goes on from where it ended.
    """
    kept: list[Event] = []
    for event in events:
        if event["kind"] == EventKind.RESUMED:
            for resume in _resumes([event]):
                if not resume.gives_up:
                    continue
                if resume.step < next_step_of(kept, -1) or not _ends_closed(kept):
                    kept = [
                        e for e in kept if e["kind"] in LASTING or not _is_after(e, resume.step)
                    ]
        kept.append(event)
    return tuple(kept)


def _ends_closed(events: Sequence[Event]) -> bool:
    """Whether the process that wrote the last of these events closed the run."""
    ends = [event["kind"] for event in events if event["kind"] in LASTING]
    return bool(ends) and ends[-1] == EventKind.CLOSED


def _is_after(event: Event, step: int) -> bool:
    if event["kind"] in LASTING:
        return False
    own: Any = event.get("step")
    return _is_count(own) and own > step


def _place(events: Sequence[Event], number: int) -> int:
    """Where in the events the resume of this number is."""
    return [i for i, e in enumerate(events) if e["kind"] == EventKind.RESUMED][number]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
