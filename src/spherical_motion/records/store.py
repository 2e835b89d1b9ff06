"""Store rows, settings, scalars and events in the files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.records.continuing import continue_run
from spherical_motion.records.directory import RunDirectory, claim
from spherical_motion.records.files.events import Event, append_events, make_event
from spherical_motion.records.files.segments import SegmentStore
from spherical_motion.records.info import RunInfo
from spherical_motion.records.pending import (
    AuditBlock,
    AuditStepRow,
    CellBlock,
    CorrelationRow,
    Pending,
    RowBlock,
    SettingsRow,
)
from spherical_motion.records.schema import (
    AUDIT_SCHEMA,
    AUDIT_STEP_SCHEMA,
    AUDIT_SUMS,
    CELL_SCHEMA,
    CORRELATION_SCHEMA,
    SCALAR_SCHEMA,
    SETTINGS_SCHEMA,
    row_schema,
)
from spherical_motion.vocabulary import EventKind
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS


class RunStore:
    """A claimed run directory, to which a `RunWriter` writes; it raises the errors of the disk."""

    def __init__(self, directory: RunDirectory, info: RunInfo, *, resume: bool) -> None:
        _warm_up()
        self._directory = directory
        self._schema = row_schema(info.products)
        self._skipped: set[str] = set()
        self._merging = True
        self._lock = claim(directory, info, resume=resume)
        try:
            # The first of `info.param_groups` among those of the run.
            self._first = continue_run(directory, info) if resume else 0
            self._rows = SegmentStore(directory.records, self._schema, noise=PRODUCTS)
            self._settings = SegmentStore(directory.settings, SETTINGS_SCHEMA, noise=("lr",))
            self._scalars = SegmentStore(directory.scalars, SCALAR_SCHEMA, noise=("value",))
            self._cells = _LateStore(directory.cells, CELL_SCHEMA, FIELDS)
            noise = ("rho", "update_sq")
            self._correlations = _LateStore(directory.correlation, CORRELATION_SCHEMA, noise)
            self._audits = _LateStore(directory.audit, AUDIT_SCHEMA, AUDIT_SUMS)
            self._audit_steps = _LateStore(directory.audit_steps, AUDIT_STEP_SCHEMA, ("grad_norm",))
            self.last_step = self._rows.last_step
        except BaseException:
            self._lock.release()
            raise

    def write(self, pending: Pending) -> None:
        """Store everything; after this returns, it survives a power cut.

        Rows come last: a killed run is resumed after its last row, so all other data of its
        steps must be on the disk by then.
        """
        events = pending.events
        if pending.scalars:
            table, skipped = _scalar_table(pending.scalars)
            self._scalars.append(table)
            events = events + [skipped[name] for name in skipped if name not in self._skipped]
            self._skipped.update(skipped)
        if events:
            append_events(self._directory.events, events)
        if pending.cells:
            self._cells.append(_cell_table(pending.cells))
        if pending.correlations:
            self._correlations.append(_correlation_table(pending.correlations))
        if pending.audits:
            self._audits.append(_audit_table(pending.audits))
        if pending.audit_steps:
            self._audit_steps.append(_audit_step_table(pending.audit_steps))
        if pending.settings:
            self._settings.append(_settings_table(pending.settings, self._first))
        if pending.rows:
            self._rows.append(_row_table(pending.rows, self._schema))

    def merge(self) -> None:
        """Merge small segments into larger ones if there are enough.

        A merge needs disk space for a copy of its parts. If it fails, an event records the error
        and recording goes on in small segments until the run is resumed.
        """
        try:
            tables = (
                *(self._rows, self._settings, self._scalars, self._cells, self._correlations),
                *(self._audits, self._audit_steps),
            )
            while self._merging and any(table.merge() for table in tables):
                pass
        except (OSError, pa.ArrowException, ValueError) as error:
            self._merging = False
            event = make_event(EventKind.NOT_MERGED, reason=str(error))
            append_events(self._directory.events, [event])

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()


class _LateStore:
    """A table whose directory is made when its first rows come; many runs never have any."""

    def __init__(self, directory: Path, schema: pa.Schema, noise: Sequence[str]) -> None:
        self._directory, self._schema, self._noise = directory, schema, noise
        self._store = self._opened() if directory.is_dir() else None

    def append(self, table: pa.Table) -> None:
        if self._store is None:
            self._directory.mkdir(exist_ok=True)
            self._store = self._opened()
        self._store.append(table)

    def merge(self) -> bool:
        return self._store is not None and self._store.merge()

    def _opened(self) -> SegmentStore:
        return SegmentStore(self._directory, self._schema, self._noise)


def _warm_up() -> None:
    """Make pyarrow import what it needs on first use, half a second if pandas is installed.

    Later this would delay training, and at exit, when imports fail, it would lose the last data.
    """
    rows = _row_table([RowBlock(0, np.zeros((1, 6)), np.zeros(1, np.int32))], row_schema())
    settings = _settings_table([SettingsRow(0, 0, np.zeros(4))], first=0)
    scalars, _ = _scalar_table([(0, {"loss": 0.0})])
    cells = _cell_table([CellBlock(0, 0, np.zeros((1, 6)))])
    correlations = _correlation_table([CorrelationRow(0, 0, np.zeros(1), 0.0)])
    audits = _audit_table([AuditBlock(0, np.zeros((1, len(AUDIT_SUMS))), np.zeros(1, np.int32))])
    audit_steps = _audit_step_table([AuditStepRow(0, 0, np.zeros(3), "")])
    for table in (rows, settings, cells, scalars, correlations, audits, audit_steps):
        pq.write_table(table, pa.BufferOutputStream(), write_page_checksum=True)


def _row_table(blocks: Sequence[RowBlock], schema: pa.Schema) -> pa.Table:
    counts = [len(block.slices) for block in blocks]
    return _table(
        schema,
        np.repeat([block.step for block in blocks], counts),
        np.concatenate([block.slices for block in blocks]),
        *np.concatenate([block.gram for block in blocks]).T,
    )


def _settings_table(rows: Sequence[SettingsRow], first: int) -> pa.Table:
    return _table(
        SETTINGS_SCHEMA,
        np.array([row.step for row in rows]),
        np.array([first + row.param_group for row in rows]),
        *np.stack([row.values for row in rows]).T,
    )


def _correlation_table(rows: Sequence[CorrelationRow]) -> pa.Table:
    columns = {
        "step": [row.step for row in rows],
        "group": [row.group for row in rows],
        "rho": [row.rho for row in rows],
        "update_sq": [row.update_sq for row in rows],
    }
    return pa.table(columns, schema=CORRELATION_SCHEMA)


def _audit_table(blocks: Sequence[AuditBlock]) -> pa.Table:
    return _table(
        AUDIT_SCHEMA,
        np.repeat([block.step for block in blocks], [len(block.parameters) for block in blocks]),
        np.concatenate([block.parameters for block in blocks]),
        *np.concatenate([block.sums for block in blocks]).T,
    )


def _audit_step_table(rows: Sequence[AuditStepRow]) -> pa.Table:
    columns = [
        [row.step for row in rows],
        [row.optimizer for row in rows],
        *np.stack([row.values for row in rows]).T,
        [row.skipped for row in rows],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, AUDIT_STEP_SCHEMA, strict=True)]
    return pa.table(arrays, schema=AUDIT_STEP_SCHEMA)


def _table(schema: pa.Schema, *columns: NDArray[np.generic]) -> pa.Table:
    """Columns of numbers as a table."""
    arrays = [
        pa.array(np.ascontiguousarray(column, field.type.to_pandas_dtype()))
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def _cell_table(blocks: Sequence[CellBlock]) -> pa.Table:
    ends = np.cumsum([0, *(len(block.gram) for block in blocks)], dtype=np.int32)
    values = np.ascontiguousarray(np.concatenate([block.gram for block in blocks]).T)
    columns = [
        pa.array([block.step for block in blocks], pa.int64()),
        pa.array([block.group for block in blocks], pa.int32()),
        *(pa.ListArray.from_arrays(pa.array(ends), pa.array(column)) for column in values),
    ]
    return pa.table(columns, schema=CELL_SCHEMA)


def _scalar_table(
    given: Sequence[tuple[int, Mapping[str, object]]],
) -> tuple[pa.Table, dict[str, Event]]:
    """The scalars as a table, and by name an event for those that are not numbers."""
    rows: list[dict[str, object]] = []
    skipped: dict[str, Event] = {}
    for step, scalars in given:
        for name, value in scalars.items():
            try:
                read = getattr(value, "item", None)
                number = float(read() if read else value)  # pyright: ignore[reportArgumentType]
            except Exception as error:  # `item` of an unknown class may raise anything
                reason = f"{type(value).__name__} is not a number: {error}"
                event = make_event(EventKind.SKIPPED, step, name=str(name), reason=reason)
                skipped.setdefault(str(name), event)
            else:
                rows.append({"step": step, "name": str(name), "value": number})
    return pa.Table.from_pylist(rows, schema=SCALAR_SCHEMA), skipped
