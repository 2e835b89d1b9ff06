"""Read a run directory, also while it is written or after its writer was killed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.errors import RunDirectoryError
from spherical_motion.notices import notify
from spherical_motion.records.audits import AuditSeries, AuditStepSeries
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.events import read_events
from spherical_motion.records.files.segments import Segment, current_segments, damaged, open_part
from spherical_motion.records.info import RunInfo, version_of
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

LISTINGS = 100
"""Listings of a directory whose files vanish, before that counts as an error."""

OPTIONAL = frozenset(PRODUCTS) - frozenset(FIELDS) | frozenset(SETTINGS)
"""Columns that a part of the rows may lack: it was written before they were measured, or since
settings have their own table."""

Columns = Mapping[str, NDArray[Any]]
Content = TypeVar("Content")


def read(directory: str | os.PathLike[str]) -> Records:
    """Everything a run has recorded so far.

    It works while the run is being written, and after its process was killed: only data that were
    not stored yet are missing. It needs no torch.

    Raises:
        NotARun: `directory` holds no run, or one of a newer version.
        RunDirectoryError: a file in it is damaged.
    """
    run = RunDirectory(Path(directory))
    text = run.read_text()
    while True:
        records = _records(run, text)
        now = run.read_text()
        if now == text:
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


def _records(run: RunDirectory, text: str) -> Records:
    info = RunInfo.from_json(text, where=str(run.info))
    # Rows come before settings: the writer stores them in the other order, so none lacks its own.
    if version_of(text) == 1:
        settings = [pa.field(name, pa.float64()) for name in SETTINGS]
        rows = _numbers(run.records, pa.schema([*row_schema(), *settings]))
        changes = None
    else:
        rows = _numbers(run.records, row_schema(info.products))
        changes = _numbers(run.settings, SETTINGS_SCHEMA)
    return Records(
        directory=run.path,
        info=info,
        scalars=scalar_series(_table(run.scalars, SCALAR_SCHEMA)),
        events=read_events(run.events),
        rows=rows,
        changes=changes,
        load_cells=functools.partial(_cells, run.cells),
        load_correlations=functools.partial(_correlations, run.correlation),
        load_audits=functools.partial(_audits, run.audit),
        load_audit_steps=functools.partial(_audit_steps, run.audit_steps),
    )


def _cells(directory: Path, group: int) -> CellSeries:
    """Read on demand, since a model may have very many."""
    return cells_of_group(_table(directory, CELL_SCHEMA), group)


def _correlations(directory: Path, group: int) -> CorrelationSeries:
    return correlations_of_group(_table(directory, CORRELATION_SCHEMA), group)


def _audits(directory: Path) -> AuditSeries:
    return AuditSeries.from_table(_sound_parts(directory, AUDIT_SCHEMA))


def _audit_steps(directory: Path) -> AuditStepSeries:
    return AuditStepSeries.from_table(_sound_parts(directory, AUDIT_STEP_SCHEMA))


def _sound_parts(directory: Path, schema: pa.Schema) -> pa.Table:
    """The table without its damaged parts, each of which a notice names.

    An audit stands beside the rows of a run, and the rest of it is as good as before. Numbers that
    a part does not have, since an earlier version wrote it, are NaN.
    """

    def sound(file: pq.ParquetFile) -> pa.Table:
        found = file.read(columns=[n for n in schema.names if n in file.schema_arrow.names])
        for place, field in enumerate(schema):
            if field.name not in found.column_names and field.type == pa.float64():
                unknown = pa.array(np.full(found.num_rows, np.nan))
                found = found.add_column(place, field, unknown)
        return found.select(schema.names).replace_schema_metadata(None).cast(schema)

    found: list[pa.Table] = []
    unreadable: list[Path] = []

    def read_if_sound(segment: Segment) -> pa.Table:
        try:
            return _open(segment, sound)
        except RunDirectoryError as error:
            if segment.path not in unreadable:
                unreadable.append(segment.path)
                notify(f"{error} What it holds of the audit is left out.")
            return schema.empty_table()

    found = _each_segment(directory, read_if_sound)
    return pa.concat_tables([schema.empty_table(), *found])


def _table(directory: Path, schema: pa.Schema) -> pa.Table:
    """The table in a directory of segments, without columns that the schema does not have."""

    def whole(file: pq.ParquetFile) -> pa.Table:
        _check_columns(schema, file.schema_arrow)
        return file.read(columns=schema.names).replace_schema_metadata(None)

    return pa.concat_tables([schema.empty_table(), *_segments(directory, whole)])


def _numbers(directory: Path, schema: pa.Schema) -> Columns:
    """Like `_table`, for a table of numbers alone; null is NaN.

    One column of one row group is decoded at a time, and the arrays of the segments are released
    as soon as they are joined: a long run takes hardly more memory than its arrays.
    """
    parts = _segments(directory, functools.partial(_arrays, schema=schema))
    columns: dict[str, NDArray[Any]] = {}
    for field in schema:
        pieces = [part.pop(field.name) for part in parts]
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


def _segments(directory: Path, content: Callable[[pq.ParquetFile], Content]) -> list[Content]:
    """What `content` reads of each segment of a table, in their order."""
    return _each_segment(directory, lambda segment: _open(segment, content))


def _each_segment(directory: Path, content: Callable[[Segment], Content]) -> list[Content]:
    """What `content` makes of each segment of a table, in their order."""
    if not directory.is_dir():
        return []
    found: dict[Path, Content] = {}
    for _ in range(LISTINGS):
        segments = _listing(directory)
        try:
            for segment in segments:
                if segment.path not in found:
                    found[segment.path] = content(segment)
        except FileNotFoundError:
            continue  # merged into another segment since the listing
        return [found[segment.path] for segment in segments]
    raise RunDirectoryError(
        f"{directory}: files vanished as fast as they were listed, {LISTINGS} times. Read a copy "
        "of the run."
    )


def _listing(directory: Path) -> list[Segment]:
    """The current segments, listed until two listings agree.

    A listing can miss a merged segment that appears behind its position, and the parts that
    disappear ahead of it. The next listing begins after both and sees the merged segment.
    """
    before: list[Segment] | None = None
    while before != (now := current_segments(directory)):
        before = now
    return now


def _open(segment: Segment, content: Callable[[pq.ParquetFile], Content]) -> Content:
    try:
        with open_part(segment.path) as file:
            return content(file)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise damaged(segment.path, error) from error
