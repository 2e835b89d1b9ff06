"""A table in numbered files, called segments, which are merged when there are many.

`part-<first>-<last>.parquet` holds the segments numbered first to last. Every flush writes a new
one. Sixteen segments of one size are rewritten as one, as in a log-structured store: a week of
flushes leaves dozens of files, and each row is rewritten a few times. The merged file is published
before its parts are removed, and a file whose numbers lie within another's is ignored, so a crash
at any point loses no row and counts none twice.

Each file has a checksum (`checksum`), which is compared before it is read, and so has each of its
pages. Segments of one table may differ in their columns: a later version of the library may have
added some, or measured more. A merged segment has them all, with null where a part had none.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records.files.checksum import require_file, verify
from spherical_motion.records.files.durable import publish, remove_leftovers, sync_names
from spherical_motion.records.files.merging import joint_schema, rows_of, write_part
from spherical_motion.records.files.remote import parquet_file

FAN_IN = 16
"""Number of segments of a size that are merged into one."""

LARGEST_MERGE = 1 << 30
"""Bytes; parts that add up to more stay as they are, since there are only a few of them."""

_NAME = re.compile(r"part-(\d{8,})-(\d{8,})\.parquet")


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """The file that holds the segments numbered `first` to `last`, both included."""

    first: int
    last: int
    path: Path

    @classmethod
    def within(cls, directory: Path, first: int, last: int) -> Segment:
        """Segments `first` to `last` under their proper name in `directory`."""
        return cls(first, last, directory / f"part-{first:08d}-{last:08d}.parquet")

    @property
    def level(self) -> int:
        """How often it was merged, from the number of segments it holds."""
        level, holds = 0, self.last - self.first + 1
        while holds >= FAN_IN:
            level, holds = level + 1, holds // FAN_IN
        return level


def _all_segments(directory: Path) -> list[Segment]:
    """All segments in the order of time, a merged one before its parts."""
    names = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    found = [Segment(int(m[1]), int(m[2]), directory / m[0]) for m in names if m]
    return sorted(found, key=lambda s: (s.first, -s.last))


def current_segments(directory: Path) -> list[Segment]:
    """The segments that hold the table in the order of time, without already merged parts."""
    current: list[Segment] = []
    for segment in _all_segments(directory):
        if not current or segment.last > current[-1].last:
            current.append(segment)
    return current


class SegmentStore:
    """Writes one table in one directory; the caller holds the lock of the run.

    Opening it removes the unfinished work of a killed writer.

    Args:
        directory: the folder of the table.
        schema: its columns.
        noise: columns, or lists, that hold floats that never repeat.
        boundaries: numbers of segments at which the run was resumed. Segments of both sides of
            one, and segments from before and after this opening, are never merged.
        order: a column of whole numbers by which the rows of each part are sorted, if any.
        check: raises if the directory is not the writer's any more.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        noise: Sequence[str],
        *,
        boundaries: Sequence[int] = (),
        order: str | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self._directory = directory
        self._schema = schema
        self._noise = frozenset(noise)
        self._order = order
        self._check = check
        check()
        remove_leftovers(directory)
        sync_names(directory)  # a killed writer may have made a name that it did not sync
        current = current_segments(directory)
        self._remove([segment for segment in _all_segments(directory) if segment not in current])
        self.next_number = max([current[-1].last + 1 if current else 0, *boundaries])
        self._stretches = _stretches(current, [*boundaries, self.next_number])

    @property
    def segments(self) -> list[Segment]:
        """The segments of the table, in the order of time."""
        return [segment for stretch in self._stretches for segment in stretch]

    def append(self, table: pa.Table) -> None:
        """Store `table` as the next segment; after this returns, it survives a power cut."""
        segment = Segment.within(self._directory, self.next_number, self.next_number)
        publish(segment.path, lambda file: self._write(table, file), check=self._check)
        self.next_number += 1
        self._stretches[-1].append(segment)

    def merge(self) -> bool:
        """Rewrite the last sixteen segments as one if they have one size; True if it did.

        What was recorded before the run was last resumed is merged as far as this goes.
        """
        return any(self._merge_last_of(stretch) for stretch in self._stretches)

    def _merge_last_of(self, stretch: list[Segment]) -> bool:
        parts = stretch[-FAN_IN:]
        if len(parts) < FAN_IN or len({part.level for part in parts}) > 1:
            return False
        if sum(part.path.stat().st_size for part in parts) > LARGEST_MERGE:
            return False
        merged = Segment.within(self._directory, parts[0].first, parts[-1].last)
        publish(merged.path, lambda file: self._concatenate(parts, file), check=self._check)
        stretch[-FAN_IN:] = [merged]
        self._remove(parts)
        return True

    def _remove(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._check()
            segment.path.unlink()
        if segments:
            sync_names(self._directory)

    def _write(self, table: pa.Table, file: BinaryIO) -> None:
        write_part(file, self._schema, [table], self._noise, self._order)

    def _concatenate(self, parts: Sequence[Segment], file: BinaryIO) -> None:
        with contextlib.ExitStack() as opened:
            files = [opened.enter_context(open_part(part.path)) for part in parts]
            schema = joint_schema(self._schema, files)
            write_part(file, schema, rows_of(files, schema, self._order), self._noise, self._order)


LOST = "it is missing"
"""Why a file or folder cannot be read that is not there."""


def said(name: str, why: str) -> str:
    """A file or folder that cannot be read, and why, in words.

    >>> said("records", "it is missing"), said("audit/part-0.parquet", "no checksum")
    ('records/ is missing', 'audit/part-0.parquet (no checksum)')
    """
    if not why.startswith(LOST):
        return f"{name} ({why})"
    folder = "" if "." in name.rpartition("/")[2] else "/"
    return f"{name}{folder}{why.removeprefix('it')}"


def damaged(path: Path, why: object, otherwise: str) -> RunDirectoryError:
    """The error that names a damaged file, and what to do if there is no copy of it."""
    missing = str(why).startswith(LOST)
    what = said(str(path), str(why)) if missing else f"{path} is damaged ({why})"
    return RunDirectoryError(f"{what}. Restore it from a copy, or {otherwise}")


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[pq.ParquetFile]:
    """A file that has the bytes with which it was written; ArrowInvalid or OSError if not."""
    verify(path)
    with parquet_file(path, check_pages=True) as file:
        yield file


def _stretches(segments: Sequence[Segment], boundaries: Sequence[int]) -> list[list[Segment]]:
    """The segments between the boundaries; the last stretch has those from the last one on."""
    inner = sorted(set(boundaries) - {0})
    stretches: list[list[Segment]] = [[] for _ in range(len(inner) + 1)]
    for segment in segments:
        stretches[bisect.bisect_right(inner, segment.first)].append(segment)
    return stretches


def _largest(column: pq.ColumnChunkMetaData) -> int | None:
    """The largest value of a column in a row group; None if its statistics do not say."""
    found = column.statistics.max if column.statistics is not None else None
    return found if isinstance(found, int) else None


def largest_step(path: Path, below: int | None = None) -> int:
    """The largest step stored in a part, or the largest one below a limit; -1 if there is none.

    Raises:
        RunDirectoryError: the part is damaged.
    """
    try:
        require_file(path)
        with pq.ParquetFile(path) as file:
            column = file.schema_arrow.get_field_index("step")
            if column < 0:
                raise pa.ArrowInvalid("it has no column step")
            groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
            told = [_largest(group.column(column)) for group in groups]
            known = [step for step in told if step is not None]
            largest = max(known, default=-1)
            if len(known) == len(told) and (below is None or largest < below):
                return largest
        with open_part(path) as file:
            steps = file.read(columns=["step"])["step"].to_numpy()
            kept = steps if below is None else steps[steps < below]
            return int(kept.max(initial=-1))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise damaged(path, error, "move it away to go on without it.") from error
