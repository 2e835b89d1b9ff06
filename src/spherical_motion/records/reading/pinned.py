"""The parts of the rows as they were at one time, found again after they were merged."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq

from spherical_motion.records.files.checksum import verify
from spherical_motion.records.files.remote import mark_of, parquet_file
from spherical_motion.records.files.segments import Segment
from spherical_motion.records.parts import LISTINGS, Parts, Unsound, gone, listing, sound
from spherical_motion.records.reading.pieces import Ints
from spherical_motion.records.reading.survey import Layout, Survey, layout_of

Result = TypeVar("Result")


class PinnedPart:
    """A part that holds rows of a run.

    Args:
        segment: its file.
        survey: what was found in it; None if it was merged since.
        limit: its rows from this step on do not count; None if all do.
    """

    def __init__(self, segment: Segment, survey: Survey | None, limit: int | None) -> None:
        self.segment, self.limit = segment, limit
        self._survey = survey

    @contextlib.contextmanager
    def opened(self) -> Iterator[pq.ParquetFile]:
        """The file, whose checksum was compared before.

        Raises:
            Unsound: it cannot be read.
            FileNotFoundError: it has vanished.
        """
        with sound(self.segment), parquet_file(self.segment.path) as file:
            yield file

    @functools.cached_property
    def layout(self) -> Layout:
        """Where its rows go."""
        if self._survey is not None and self._survey.layout is not None:
            return self._survey.layout
        with self.opened() as file:
            return layout_of(file)


class PinnedParts:
    """The parts that a run had when it was read.

    A part that was merged since is read from the file that holds it now; the numbers of its
    segments tell which one that is. The file may hold later rows, too.

    Args:
        parts: reads the files of the run.
        directory: the folder of the table.
        surveys: the parts in order, each with what was found in it.
        limit: gives for the number of a part the step from which on its rows do not count.

    Attributes:
        steps: the distinct steps of the rows that count, increasing, shape (steps,).
    """

    def __init__(
        self,
        parts: Parts,
        directory: Path,
        surveys: Sequence[tuple[Segment, Survey]],
        limit: Callable[[int], int | None],
    ) -> None:
        self._parts, self._directory, self._limit = parts, directory, limit
        self._surveys = dict(surveys)
        self._verified = set(self._surveys)
        self._marks = {segment: mark_of(segment.path) for segment in self._surveys}

        found = [_below(survey.steps, limit(s.first)) for s, survey in self._surveys.items()]
        steps = np.unique(np.concatenate([np.empty(0, np.int64), *found])).astype(np.int64)
        steps.flags.writeable = False
        self.steps = steps

    def using(self, work: Callable[[Sequence[PinnedPart]], Result]) -> Result:
        """The result of `work` on the parts; it is called again after files moved under it.

        A part that turns out to be damaged is left out from then on.

        Raises:
            RunDirectoryError: the files are gone, or reading is strict and one is damaged.
        """
        for _ in range(LISTINGS):
            try:
                return work(self._now())
            except FileNotFoundError:
                continue
            except Unsound as error:
                self._parts.leave_out(error.segment.path, error.why)
                for segment in [s for s in self._surveys if _lies_within(s, error.segment)]:
                    del self._surveys[segment]
        raise gone(self._directory, "parts of it are gone")

    def _now(self) -> list[PinnedPart]:
        """The files that hold the parts now, in order."""
        marks = {segment: mark_of(segment.path) for segment in self._surveys}
        if replaced := [s for s in marks if marks[s] not in (None, self._marks[s])]:
            raise gone(self._directory, f"{replaced[0].path.name} was replaced")
        files = list(self._surveys) if None not in marks.values() else self._merged()
        return [PinnedPart(s, self._surveys.get(s), self._limit(s.first)) for s in files]

    def _merged(self) -> list[Segment]:
        """The files that hold the parts, of which some are merged."""
        current = listing(self._directory) if self._directory.is_dir() else []
        self._parts.check_pinned(self._directory, current)
        found: dict[Segment, None] = {}
        for segment in self._surveys:
            holding = next((other for other in current if _lies_within(segment, other)), None)
            if holding is None:
                raise FileNotFoundError(segment.path)
            found[holding] = None
        for segment in found.keys() - self._verified:
            with sound(segment):
                verify(segment.path)
            self._verified.add(segment)
        return list(found)


def _below(steps: Ints, limit: int | None) -> Ints:
    return steps if limit is None else steps[steps < limit]


def _lies_within(segment: Segment, other: Segment) -> bool:
    return other.first <= segment.first and segment.last <= other.last
