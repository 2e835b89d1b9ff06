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
from numpy.typing import NDArray

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records.dense import latest, unknown
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.events import read_events
from spherical_motion.records.info import RunInfo, version_of
from spherical_motion.records.result import CellSeries, CorrelationSeries, Records, Series
from spherical_motion.records.schema import (
    CELL_SCHEMA,
    CORRELATION_SCHEMA,
    SCALAR_SCHEMA,
    SETTINGS,
    SETTINGS_SCHEMA,
    row_schema,
)
from spherical_motion.records.segments import Segment, current_segments, open_part
from spherical_motion.vocabulary import EventKind
from spherical_motion.vocabulary.gram import FIELDS, Gram

LISTINGS = 100
"""Listings of a directory whose files vanish, before that counts as an error."""


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
        text = now  # a run that is resumed may change what the rows and settings mean


def _records(run: RunDirectory, text: str) -> Records:
    info = RunInfo.from_json(text, where=str(run.info))
    # Settings come after the rows: a writer stores them in the other order.
    if version_of(text) == 1:
        columns = [*row_schema(info.products), *(pa.field(n, pa.float64()) for n in SETTINGS)]
        rows, changes = _columns(_load(run.records, pa.schema(columns))), None
    else:
        rows = _columns(_load(run.records, row_schema(info.products)))
        changes = _columns(_load(run.settings, SETTINGS_SCHEMA))
    return Records(
        directory=run.path,
        info=info,
        scalars=_series(_load(run.scalars, SCALAR_SCHEMA)),
        events=read_events(run.events),
        rows=rows,
        changes=changes,
        load_cells=functools.partial(_cells_of_group, run.cells),
        load_correlations=functools.partial(_correlations_of_group, run.correlation),
    )


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


def _cells_of_group(directory: Path, number: int) -> CellSeries:
    """The cells of group `number`, read on demand, since a model may have very many."""
    table = _of_group(_load(directory, CELL_SCHEMA), number)
    step = table["step"].to_numpy()
    shape = (len(step), -1) if len(step) else (0, 0)
    chosen = latest(step)
    lists = (table[name].combine_chunks().flatten().to_numpy().reshape(shape) for name in FIELDS)
    products = [column[chosen] for column in lists]
    unmeasured = unknown(products[0].shape)
    return CellSeries(step[chosen], Gram(*products, wp=unmeasured, ws=unmeasured))


def _correlations_of_group(directory: Path, number: int) -> CorrelationSeries:
    """The autocorrelations of the updates of group `number`; the later row of a step counts."""
    table = _of_group(_load(directory, CORRELATION_SCHEMA), number)
    step = table["step"].to_numpy()
    chosen = latest(step)
    lists = [np.array(rho, np.float64) for rho in table["rho"].to_pylist()]
    rho = np.full((len(chosen), max(map(len, lists), default=0)), np.nan)
    for row, i in enumerate(chosen):
        rho[row, : len(lists[i])] = lists[i]
    return CorrelationSeries(step[chosen], rho, table["update_sq"].to_numpy()[chosen])


def _of_group(table: pa.Table, number: int) -> pa.Table:
    return table.filter(pa.array(table["group"].to_numpy() == number))


def _columns(table: pa.Table) -> Mapping[str, NDArray[Any]]:
    """The columns as arrays, null as NaN; each is released before the next is copied."""
    columns: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        columns[name] = table[name].to_numpy()
        table = table.drop_columns(name)
    return MappingProxyType(columns)


def _load(directory: Path, schema: pa.Schema) -> pa.Table:
    """The table in a directory of segments, with the columns of `schema`.

    A column that a segment lacks is null, and others are not read.
    """
    if not directory.is_dir():
        return schema.empty_table()
    tables: dict[Path, pa.Table] = {}
    for _ in range(LISTINGS):
        segments = _listing(directory)
        try:
            for segment in segments:
                if segment.path not in tables:
                    tables[segment.path] = _open(segment, schema)
        except FileNotFoundError:
            continue  # merged into another segment since the listing
        found = (tables[segment.path] for segment in segments)
        return pa.concat_tables([schema.empty_table(), *found], promote_options="default")
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


def _open(segment: Segment, schema: pa.Schema) -> pa.Table:
    try:
        with open_part(segment.path) as file:
            table = file.read(columns=schema.names)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise _damaged(segment, str(error)) from error
    optional = {"wp", "ws", *SETTINGS} if schema.names[1] == "slice" else set()
    for field in schema:
        if field.name not in table.column_names:
            if field.name not in optional:
                raise _damaged(segment, f"it has no column {field.name}")
        elif table.schema.field(field.name).type != field.type:
            raise _damaged(segment, f"its column {field.name} is no {field.type}")
    return table


def _damaged(segment: Segment, why: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{segment.path} is damaged ({why}). Restore it from a copy, or move it away to read the "
        "rest of the run."
    )


def _series(table: pa.Table) -> Mapping[str, Series]:
    """Per name the increasing steps and their values; of equal steps the later row counts."""
    names = table["name"].dictionary_encode().unify_dictionaries().combine_chunks()
    step, value = table["step"].to_numpy(), table["value"].to_numpy()
    which = names.indices.to_numpy()
    series: dict[str, Series] = {}
    for i, name in sorted(enumerate(names.dictionary.to_pylist()), key=lambda pair: pair[1]):
        rows = np.flatnonzero(which == i)
        chosen = rows[latest(step[rows])]
        series[name] = Series(step[chosen], value[chosen])
    return MappingProxyType(series)
