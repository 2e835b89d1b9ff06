"""The tables of a run, part by part; a part that cannot be read is left out and remembered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.errors import RunDirectoryError
from spherical_motion.notices import listed, notify
from spherical_motion.records.files.branches import Branches
from spherical_motion.records.files.remote import mark_of
from spherical_motion.records.files.segments import (
    Segment,
    current_segments,
    damaged,
    open_part,
    said,
)

LISTINGS = 100
"""Listings of a directory whose files vanish, before that counts as an error."""

THREADS = 2
"""Threads that read; checksums and decoding leave the interpreter to others."""

WORTH_THREADS = 32 << 20
"""Bytes of parts from which on they are read by several threads."""

Content = TypeVar("Content")


Marks = Mapping[Segment, tuple[int | str, ...] | None]
"""The files of a table, and what tells each from another one of its name."""


class Unreadable(NamedTuple):
    """A piece of a run that could not be read: its name in the run directory, and why."""

    name: str
    why: str


class Parts:
    """Reads the tables of one run directory.

    Args:
        root: the run directory.
        strict: raise at the first part that cannot be read, instead of leaving it out.

    Attributes:
        branches: which rows of which part count.
    """

    def __init__(self, root: Path, *, strict: bool = False) -> None:
        self._root = root
        self._strict = strict
        self._found: dict[str, str] = {}
        self._announced: int | None = None
        self._marks: dict[Path, Marks] = {}
        self._is_same_run: Callable[[], bool] | None = None
        self.branches = Branches(())

    def hold(self, branches: Branches, folders: Iterable[Path]) -> None:
        """Read the run as it is now, also tables that are read on demand after it has gone on."""
        self.branches = branches
        for folder in folders:
            current = listing(folder) if folder.is_dir() else []
            self._marks[folder] = {segment: mark_of(segment.path) for segment in current}

    def pin(self, is_same_run: Callable[[], bool]) -> None:
        """Read no other run from now on; `is_same_run` says whether that of `hold` is there."""
        self._is_same_run = is_same_run

    def of_all_branches(self) -> Parts:
        """Reads the same parts, with the rows that were given up."""
        every = Parts(self._root)
        every._marks, every._is_same_run = self._marks, self._is_same_run
        return every

    def check_pinned(self, directory: Path, segments: Iterable[Segment]) -> None:
        """Check that these parts of a table are of the run that is pinned.

        Raises:
            RunDirectoryError: another run is in its place.
        """
        marks = self._marks.get(directory)
        if marks is None or self._is_same_run is None:
            return
        now = {segment: mark_of(segment.path) for segment in segments}
        for segment in now.keys() & marks.keys():
            if now[segment] not in (None, marks[segment]):
                raise gone(directory, f"{segment.path.name} was replaced")
        if now.keys() != marks.keys() and not self._is_same_run():
            raise gone(directory, "it holds another run, or none")

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """What was left out so far."""
        return tuple(Unreadable(name, why) for name, why in self._found.items())

    def leave_out(self, path: Path, why: object) -> None:
        """Remember that `path` is left out.

        Raises:
            RunDirectoryError: reading is strict.
        """
        if self._strict:
            otherwise = "read without strict=True, which leaves it out."
            raise damaged(path, why, otherwise) from (why if isinstance(why, Exception) else None)
        name = str(path.relative_to(self._root))
        if name not in self._found:
            self._found[name] = str(why)
            if self._announced is not None:  # a table that is read on demand
                self.announce()

    def announce(self) -> None:
        """Say in one notice what was left out since the last one."""
        found = self.unreadable[self._announced or 0 :]
        self._announced = len(self._found)
        if found:
            which = listed([said(*part) for part in found], separator="; ")
            held = "What it holds" if len(found) == 1 else "What they hold"
            notify(f"{self._root} is damaged: {which}. {held} is left out. Restore from a copy.")

    def tell_steps(self, found: Sequence[tuple[Segment, NDArray[np.integer[Any]] | None]]) -> None:
        """Tell of each lost part between which steps its own lie, as far as its neighbours show.

        Args:
            found: the parts of a table in order, each with its increasing steps; None if lost.
        """
        for place, (segment, steps) in enumerate(found):
            name = str(segment.path.relative_to(self._root))
            if steps is not None or name not in self._found:
                continue
            before = [(s, own) for s, own in found[:place] if own is not None and len(own)]
            after = [own for _, own in found[place + 1 :] if own is not None and len(own)]
            bounds = []
            if before:
                limit = self.branches.limit(segment.path.parent.name, before[-1][0].first)
                last = int(before[-1][1][-1])
                bounds.append(last if limit is None else min(last, limit - 1))
            first = int(after[0][0]) if after else None
            if bounds and first is not None and first > bounds[0] + 1:
                self._found[name] += f"; its steps lie between {bounds[0]} and {first}"
            elif bounds and first is None:
                self._found[name] += f"; its steps lie after {bounds[0]}"
            elif not bounds and first:
                self._found[name] += f"; its steps lie before {first}"

    def expect(self, directory: Path) -> None:
        """Note that the folder of a table is missing, if it is."""
        if not directory.is_dir():
            self.leave_out(directory, "it is no folder" if directory.exists() else "it is missing")

    def read(self, directory: Path, content: Callable[[pq.ParquetFile], Content]) -> list[Content]:
        """What `content` makes of each part of a table that can be read, in their order."""
        return [found for found in self.read_with_gaps(directory, content) if found is not None]

    def read_with_gaps(
        self, directory: Path, content: Callable[[pq.ParquetFile], Content]
    ) -> list[Content | None]:
        """Like `read`, with None for each that cannot be read.

        Raises:
            RunDirectoryError: reading is strict, or the whole run is gone.
        """
        found = self.read_numbered(directory, content)
        return [None if rows is None else self._counting(part, rows) for part, rows in found]

    def read_numbered(
        self, directory: Path, content: Callable[[pq.ParquetFile], Content]
    ) -> list[tuple[Segment, Content | None]]:
        """Like `read_with_gaps`, each with its numbers, and with the rows that were given up."""
        if not directory.is_dir():
            self._check_removal(directory)
            if self.branches.written(directory.name):
                self.expect(directory)
            return []
        segments, found = self._each(directory, content)
        contents: list[tuple[Segment, Content | None]] = []
        expected = 0
        for segment in segments:
            if segment.first > expected:
                gap = Segment.within(directory, expected, segment.first - 1)
                self._miss(gap)
                contents.append((gap, None))
            contents.append((segment, found.get(segment.path)))
            expected = segment.last + 1
        if expected < (told := self.branches.written(directory.name)):
            gap = Segment.within(directory, expected, told - 1)
            self._miss(gap)
            contents.append((gap, None))
        return contents

    def steps(self, directory: Path) -> list[tuple[int, NDArray[np.int64]]]:
        """The number of each part that can be read, and its steps, of all branches."""
        segments, found = self._each(directory, lambda file: file.read(columns=["step"])["step"])
        return [(s.first, found[s.path].to_numpy()) for s in segments if s.path in found]

    def _holds(self, directory: Path, number: int) -> bool:
        marks = self._marks.get(directory)
        there = marks is None or any(number <= segment.last for segment in marks)
        return there and self.branches.holds(directory.name, number)

    def _check_removal(self, directory: Path) -> None:
        """Note a table that was there before; raise if the whole run is gone."""
        if not (self._root / "run.json").exists():
            raise RunDirectoryError(
                f"{self._root} was removed since it was opened, so {directory.name}/ cannot be "
                "read. Read tables before their run is removed."
            )
        if self._marks.get(directory):
            self.check_pinned(directory, ())
            self.leave_out(directory, "it was removed since the run was opened")

    def _counting(self, segment: Segment, rows: Any) -> Any:
        """The rows of a part that were not given up; rows are a table, or columns by name."""
        table = segment.path.parent.name
        if self.branches.limit(table, segment.first) is None:
            return rows
        kept = self.branches.kept(table, segment.first, np.asarray(rows["step"]))
        if isinstance(rows, pa.Table):
            return rows.filter(pa.array(kept))
        return {name: column[kept] for name, column in rows.items()}

    def _miss(self, gap: Segment) -> None:
        count = gap.last - gap.first + 1
        self.leave_out(gap.path, f"{count} parts are missing" if count > 1 else "it is missing")

    def _each(
        self, directory: Path, content: Callable[[pq.ParquetFile], Content]
    ) -> tuple[list[Segment], dict[Path, Content]]:
        """The parts of a table, and what `content` makes of those that can be read."""
        found: dict[Path, Content] = {}
        unsound: dict[Path, Exception] = {}
        for _ in range(LISTINGS):
            segments = [s for s in listing(directory) if self._holds(directory, s.first)]
            new = [s for s in segments if s.path not in found and s.path not in unsound]
            vanished = False
            for segment, result in zip(new, _open_all(new, content), strict=False):
                if isinstance(result, FileNotFoundError):
                    vanished = True  # merged into another segment since the listing
                elif isinstance(result, Unsound):
                    unsound[segment.path] = result.why
                else:
                    found[segment.path] = result
            if vanished:
                continue
            self.check_pinned(directory, segments)
            for segment in segments:
                if segment.path in unsound:
                    self.leave_out(segment.path, unsound[segment.path])
            return segments, found
        raise RunDirectoryError(
            f"{directory}: files vanished as fast as they were listed, {LISTINGS} times. Read a "
            "copy of the run."
        )


class Unsound(Exception):
    """A part cannot be read."""

    def __init__(self, segment: Segment, why: Exception) -> None:
        super().__init__(str(why))
        self.segment, self.why = segment, why


def gone(directory: Path, what: str) -> RunDirectoryError:
    """What is raised where a table cannot be read any more as it was."""
    return RunDirectoryError(
        f"{directory} is not as it was when the run was read: {what}. Read the run again."
    )


def listing(directory: Path) -> list[Segment]:
    """The current segments, listed until two listings agree.

    A listing can miss a merged segment that appears behind its position, and the parts that
    disappear ahead of it. The next listing begins after both and sees the merged segment.
    """
    before: list[Segment] | None = None
    while before != (now := current_segments(directory)):
        before = now
    return now


def _open_all(
    segments: Sequence[Segment], content: Callable[[pq.ParquetFile], Content]
) -> list[Content | Unsound | FileNotFoundError]:
    """What `content` makes of each part, or why it does not, until one has vanished.

    Large parts are read two at a time.
    """

    def attempt(segment: Segment) -> Content | Unsound | FileNotFoundError:
        try:
            return _open(segment, content)
        except (Unsound, FileNotFoundError) as error:
            return error

    if sum(map(_size, segments)) < WORTH_THREADS:
        results = []
        for segment in segments:
            results.append(attempt(segment))
            if isinstance(results[-1], FileNotFoundError):
                break
        return results
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(attempt, segments))


def _size(segment: Segment) -> int:
    try:
        return segment.path.stat().st_size
    except OSError:
        return 0


def _open(segment: Segment, content: Callable[[pq.ParquetFile], Content]) -> Content:
    with sound(segment), open_part(segment.path) as file:
        return content(file)


@contextlib.contextmanager
def sound(segment: Segment) -> Iterator[None]:
    """While a part is read: what goes wrong is the part's fault, unless it has vanished.

    Raises:
        Unsound: it is damaged.
        FileNotFoundError: it has vanished.
    """
    try:
        yield
    except FileNotFoundError as error:
        if segment.path.is_symlink():
            raise Unsound(segment, error) from error
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Unsound(segment, error) from error
