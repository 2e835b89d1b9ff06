"""Read a run directory, also while it is written or after its writer was killed."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.records.audits import AuditSeries, AuditStepSeries
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.events import Event, read_events
from spherical_motion.records.info import RunInfo, version_of
from spherical_motion.records.parts import Parts
from spherical_motion.records.result import Records
from spherical_motion.records.schema import (
    AUDIT_SCHEMA,
    AUDIT_STEP_SCHEMA,
    CELL_SCHEMA,
    CORRELATION_SCHEMA,
    SCALAR_SCHEMA,
    SETTINGS,
    SETTINGS_SCHEMA,
    row_schema,
)
from spherical_motion.records.series import (
    CellSeries,
    CorrelationSeries,
    cells_of_group,
    correlations_of_group,
    scalar_series,
)
from spherical_motion.vocabulary import EventKind
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

OPTIONAL = frozenset(PRODUCTS) - frozenset(FIELDS) | frozenset(SETTINGS)
"""Columns that a part of the rows may lack: it was written before they were measured, or since
settings have their own table."""

Columns = Mapping[str, NDArray[Any]]


def read(directory: str | os.PathLike[str], *, strict: bool = False) -> Records:
    """Everything a run has recorded so far.

    It works while the run is being written, and after its process was killed: only data that were
    not stored yet are missing. It needs no torch.

    Args:
        directory: the run directory.
        strict: raise at a file that is damaged or missing. If left out, such files are named in
            one notice and in `Records.unreadable`, and the rest is read.

    Raises:
        NotARun: `directory` holds no run, or one of a newer version.
        RunDirectoryError: with `strict`, a file in it is damaged or missing.
    """
    run = RunDirectory(Path(directory))
    text = run.read_text()
    while True:
        parts = Parts(run.path, strict=strict)
        records = _records(run, text, parts)
        now = run.read_text()
        if now == text:
            parts.announce()
            return records
        text = now  # a resumed run may have changed what its rows and settings mean


def read_info(directory: str | os.PathLike[str]) -> RunInfo:
    """The facts of a run without its data: groups, settings, versions.

    Raises:
        NotARun: `directory` holds no run, or one of a newer version.
    """
    return RunDirectory(Path(directory)).read_info()


def steps_at_close(directory: str | os.PathLike[str]) -> list[int] | None:
    """The next step of each optimizer when a run was last closed; None if it was killed."""
    events = read_events(RunDirectory(Path(directory)).events)
    ends = [e for e in events if e["kind"] in (EventKind.CLOSED, EventKind.RESUMED)]
    return ends[-1]["steps"] if ends and ends[-1]["kind"] == EventKind.CLOSED else None


def _records(run: RunDirectory, text: str, parts: Parts) -> Records:
    info = RunInfo.from_json(text, where=str(run.info))
    # Rows come before settings: the writer stores them in the other order, so none lacks its own.
    if version_of(text) == 1:
        settings = [pa.field(name, pa.float64()) for name in SETTINGS]
        rows = _numbers(parts, run.records, pa.schema([*row_schema(), *settings]))
        changes = None
    else:
        rows = _numbers(parts, run.records, row_schema(info.products))
        changes = _changes(parts, run.settings, len(info.param_groups))
        if len(rows["step"]):
            parts.expect(run.settings)
    scalars = scalar_series(_table(parts, run.scalars, SCALAR_SCHEMA))
    events = read_events(run.events)
    # A copy may leave out empty folders, so only that of a run that recorded something is missed.
    if scalars or (changes and len(changes["step"])) or any(_steps_taken(e) for e in events):
        parts.expect(run.records)
    _check_late_tables(run, parts)
    return Records(
        directory=run.path,
        info=info,
        scalars=scalars,
        events=events,
        rows=rows,
        changes=changes,
        load_cells=functools.partial(_cells, parts, run.cells),
        load_correlations=functools.partial(_correlations, parts, run.correlation),
        load_audits=functools.partial(_audits, parts, run.audit),
        load_audit_steps=functools.partial(_audit_steps, parts, run.audit_steps),
        parts=parts,
    )


def _steps_taken(event: Event) -> bool:
    """Whether an event says that the run had taken steps."""
    return event["kind"] == EventKind.CLOSED and any(event["steps"])


def _check_late_tables(run: RunDirectory, parts: Parts) -> None:
    """Compare the checksums and columns of the tables that are read on demand."""
    for directory, schema in ((run.cells, CELL_SCHEMA), (run.correlation, CORRELATION_SCHEMA)):
        parts.read(directory, lambda file, schema=schema: _check_columns(schema, file.schema_arrow))
    for directory in (run.audit, run.audit_steps):
        parts.read(directory, lambda file: None)


def _cells(parts: Parts, directory: Path, group: int) -> CellSeries:
    """Read on demand, since a model may have very many."""
    return cells_of_group(_table(parts, directory, CELL_SCHEMA), group)


def _correlations(parts: Parts, directory: Path, group: int) -> CorrelationSeries:
    return correlations_of_group(_table(parts, directory, CORRELATION_SCHEMA), group)


def _audits(parts: Parts, directory: Path) -> AuditSeries:
    return AuditSeries.from_table(_audit_table(parts, directory, AUDIT_SCHEMA))


def _audit_steps(parts: Parts, directory: Path) -> AuditStepSeries:
    return AuditStepSeries.from_table(_audit_table(parts, directory, AUDIT_STEP_SCHEMA))


def _audit_table(parts: Parts, directory: Path, schema: pa.Schema) -> pa.Table:
    """Like `_table`; numbers that a part lacks, since an earlier version wrote it, are NaN."""

    def whole(file: pq.ParquetFile) -> pa.Table:
        found = file.read(columns=[n for n in schema.names if n in file.schema_arrow.names])
        for place, field in enumerate(schema):
            if field.name not in found.column_names and field.type == pa.float64():
                unknown = pa.array(np.full(found.num_rows, np.nan))
                found = found.add_column(place, field, unknown)
        return found.select(schema.names).replace_schema_metadata(None).cast(schema)

    return pa.concat_tables([schema.empty_table(), *parts.read(directory, whole)])


def _table(parts: Parts, directory: Path, schema: pa.Schema) -> pa.Table:
    """The table in a directory of segments, without columns that the schema does not have."""

    def whole(file: pq.ParquetFile) -> pa.Table:
        _check_columns(schema, file.schema_arrow)
        return file.read(columns=schema.names).replace_schema_metadata(None)

    return pa.concat_tables([schema.empty_table(), *parts.read(directory, whole)])


def _numbers(parts: Parts, directory: Path, schema: pa.Schema) -> Columns:
    """Like `_table`, for a table of numbers alone; null is NaN.

    One column of one row group is decoded at a time, and the arrays of the segments are released
    as soon as they are joined: a long run takes hardly more memory than its arrays.
    """
    return _joined(parts.read(directory, functools.partial(_arrays, schema=schema)), schema)


def _changes(parts: Parts, directory: Path, param_groups: int) -> Columns:
    """The table of settings. After a part that cannot be read they are unknown until told again.

    An unknown change takes effect after the last step of the part before it at the earliest.
    """
    content = functools.partial(_arrays, schema=SETTINGS_SCHEMA)
    known: list[dict[str, NDArray[Any]]] = []
    for arrays in parts.read_with_gaps(directory, content):
        if arrays is not None:
            known.append(arrays)
        elif known and len(known[-1]["step"]):
            unknown = {name: np.full(param_groups, np.nan) for name in SETTINGS}
            step = np.full(param_groups, known[-1]["step"][-1] + 1)
            known.append({"step": step, "param_group": np.arange(param_groups), **unknown})
    return _joined(known, SETTINGS_SCHEMA)


def _joined(read: list[dict[str, NDArray[Any]]], schema: pa.Schema) -> Columns:
    """The parts' columns one below the other; they are taken out of `read`."""
    columns: dict[str, NDArray[Any]] = {}
    for field in schema:
        pieces = [part.pop(field.name) for part in read]
        empty = np.empty(0, field.type.to_pandas_dtype())
        columns[field.name] = pieces[0] if len(pieces) == 1 else np.concatenate([empty, *pieces])
    return MappingProxyType(columns)


def _arrays(file: pq.ParquetFile, schema: pa.Schema) -> dict[str, NDArray[Any]]:
    """The columns of one file."""
    _check_columns(schema, file.schema_arrow)
    return {field.name: _array(file, field) for field in schema}


def _array(file: pq.ParquetFile, field: pa.Field) -> NDArray[Any]:
    if field.name not in file.schema_arrow.names:
        return np.full(file.metadata.num_rows, np.nan)
    array = np.empty(file.metadata.num_rows, field.type.to_pandas_dtype())
    first = 0
    for group in range(file.metadata.num_row_groups):
        column = file.read_row_group(group, columns=[field.name])[field.name]
        if column.null_count and not pa.types.is_floating(column.type):
            raise pa.ArrowInvalid(f"its column {field.name} has gaps")
        array[first : first + len(column)] = column.to_numpy()
        first += len(column)
    return array


def _check_columns(expected: pa.Schema, found: pa.Schema) -> None:
    """Raise ArrowInvalid unless a file has the columns of a table; it may have others."""
    for field in expected:
        if field.name in found.names:
            if found.field(field.name).type != field.type:
                raise pa.ArrowInvalid(f"its column {field.name} is not of type {field.type}")
        elif field.name not in OPTIONAL or "slice" not in expected.names:
            raise pa.ArrowInvalid(f"it has no column {field.name}")
