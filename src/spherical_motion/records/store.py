"""Rows, scalars and events into the files of a run, one call after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.records.directory import RunDirectory, claim
from spherical_motion.records.events import append_events, make_event
from spherical_motion.records.schema import CELL_SCHEMA, ROW_SCHEMA, SCALAR_SCHEMA, RunInfo
from spherical_motion.records.segments import SegmentStore
from spherical_motion.vocabulary.gram import FIELDS

__all__ = ["Block", "CellBlock", "Pending", "RunStore"]


class Block(NamedTuple):
    """The rows of one step."""

    step: int
    gram: NDArray[np.float64]  # (rows, 6)
    settings: NDArray[np.float64]  # (rows, 4)
    slices: NDArray[np.int32]  # (rows,)

    @property
    def nbytes(self) -> int:
        """Memory it takes, roughly."""
        return self.gram.nbytes + self.settings.nbytes


class CellBlock(NamedTuple):
    """The cells of one group at one step."""

    step: int
    group: int
    gram: NDArray[np.float64]  # (cells, 6)


@dataclasses.dataclass(slots=True)
class Pending:
    """What was given and is not yet on the disk."""

    blocks: list[Block] = dataclasses.field(default_factory=list)
    cells: list[CellBlock] = dataclasses.field(default_factory=list)
    scalars: list[tuple[int, Mapping[str, Any]]] = dataclasses.field(default_factory=list)
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    nbytes: int = 0


class RunStore:
    """A claimed run directory: the disk behind a `RunWriter`. Raises what the disk raises."""

    def __init__(self, directory: RunDirectory, info: RunInfo, *, resume: bool) -> None:
        _rehearse()
        self._events = directory.events
        self._cells_directory = directory.cells
        self._skipped: set[str] = set()
        self._merging = True
        self._lock = claim(directory, info, resume=resume)
        try:
            self._rows = SegmentStore(directory.records, ROW_SCHEMA, noise=FIELDS)
            self._scalars = SegmentStore(directory.scalars, SCALAR_SCHEMA, noise=("value",))
            self._cells = self._open_cells() if directory.cells.is_dir() else None
            self.last_step = self._rows.last_step
        except BaseException:
            self._lock.release()
            raise

    def write(self, pending: Pending) -> None:
        """Store it all. When this returns, it survives a power cut.

        Rows come last: a killed run is resumed behind its last row, and what belongs to the
        steps before is then there as well.
        """
        events = pending.events
        if pending.scalars:
            table, skipped = _scalar_table(pending.scalars)
            self._scalars.append(table)
            events = events + [skipped[name] for name in skipped if name not in self._skipped]
            self._skipped.update(skipped)
        if events:
            append_events(self._events, events)
        if pending.cells:
            self._cells = self._cells or self._open_cells()
            self._cells.append(_cell_table(pending.cells))
        if pending.blocks:
            self._rows.append(_row_table(pending.blocks))

    def merge(self) -> None:
        """Merge small segments into larger ones where enough have gathered.

        A merge needs room for a copy of its parts. Where it fails, recording goes on in small
        segments until the run is resumed, and an event says so.
        """
        try:
            stores = [s for s in (self._rows, self._scalars, self._cells) if s is not None]
            while self._merging and any(store.merge() for store in stores):
                pass
        except (OSError, pa.ArrowException) as error:
            self._merging = False
            append_events(self._events, [make_event("not_merged", reason=str(error))])

    def close(self) -> None:
        """Let the next writer in."""
        self._lock.release()

    def _open_cells(self) -> SegmentStore:
        self._cells_directory.mkdir(exist_ok=True)
        return SegmentStore(self._cells_directory, CELL_SCHEMA, noise=FIELDS)


def _rehearse() -> None:
    """Make pyarrow load what it loads on first use: half a second, if pandas is installed.

    During training that would be felt, and at exit, when imports fail, it would lose the tail.
    """
    row = Block(0, np.zeros((1, 6)), np.zeros((1, 4)), np.zeros(1, np.int32))
    scalars, _ = _scalar_table([(0, {"loss": 0.0})])
    cells = _cell_table([CellBlock(0, 0, np.zeros((1, 6)))])
    for table in (_row_table([row]), cells, scalars):
        pq.write_table(table, pa.BufferOutputStream())


def _row_table(blocks: Sequence[Block]) -> pa.Table:
    counts = [len(block.slices) for block in blocks]
    columns = [
        np.repeat([block.step for block in blocks], counts),
        np.concatenate([block.slices for block in blocks]),
        *np.concatenate([block.gram for block in blocks]).T,
        *np.concatenate([block.settings for block in blocks]).T,
    ]
    arrays = [
        pa.array(np.ascontiguousarray(column, field.type.to_pandas_dtype()))
        for column, field in zip(columns, ROW_SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=ROW_SCHEMA)


def _cell_table(blocks: Sequence[CellBlock]) -> pa.Table:
    ends = np.cumsum([0, *(len(block.gram) for block in blocks)], dtype=np.int32)
    values = np.ascontiguousarray(np.concatenate([block.gram for block in blocks]).T)
    columns = [
        pa.array(np.array([block.step for block in blocks], np.int64)),
        pa.array(np.array([block.group for block in blocks], np.int32)),
        *(pa.ListArray.from_arrays(pa.array(ends), pa.array(column)) for column in values),
    ]
    return pa.table(columns, schema=CELL_SCHEMA)


def _scalar_table(
    given: Sequence[tuple[int, Mapping[str, Any]]],
) -> tuple[pa.Table, dict[str, dict[str, Any]]]:
    """The scalars as a table, and by name an event for those that are no numbers."""
    rows: list[dict[str, Any]] = []
    skipped: dict[str, dict[str, Any]] = {}
    for step, scalars in given:
        for name, value in scalars.items():
            try:
                number = float(value.item() if hasattr(value, "item") else value)
            except Exception as error:  # a stranger's `item` may raise anything
                reason = f"{type(value).__name__} is no number: {error}"
                event = make_event("skipped", step, name=str(name), reason=reason)
                skipped.setdefault(str(name), event)
            else:
                rows.append({"step": step, "name": str(name), "value": number})
    return pa.Table.from_pylist(rows, schema=SCALAR_SCHEMA), skipped
