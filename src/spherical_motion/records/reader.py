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

from spherical_motion.errors import NotARun, RunDirectoryError
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.branches import Branches
from spherical_motion.records.files.events import Event
from spherical_motion.records.files.remote import place_of
from spherical_motion.records.info import RunInfo, version_of
from spherical_motion.records.parts import Parts
from spherical_motion.records.reading.file_columns import column_of
from spherical_motion.records.reading.late_tables import LateTables, whole_part
from spherical_motion.records.reading.pinned import PinnedParts
from spherical_motion.records.reading.rows import StoredRows
from spherical_motion.records.reading.slice_columns import SliceColumns
from spherical_motion.records.reading.survey import survey_of
from spherical_motion.records.result import Records
from spherical_motion.records.schema import (
    SCALAR_SCHEMA,
    SETTINGS,
    SETTINGS_SCHEMA,
    row_schema,
)
from spherical_motion.records.series import (
    scalar_series,
)
from spherical_motion.records.validation import Bounds, parse_document, sound_events
from spherical_motion.records.validation.table_rows import (
    MOST_STEP,
    check_column,
    check_columns,
    check_counts,
)
from spherical_motion.vocabulary import EventKind
from spherical_motion.vocabulary.gram import PRODUCTS

Columns = Mapping[str, NDArray[Any]]


def read(
    directory: str | os.PathLike[str], *, branch: int | None = None, strict: bool = False
) -> Records:
    """Everything a run has recorded so far.

    It works while the run is being written, and after its process was killed: only data that were
    not stored yet are missing. It needs no torch.

    Where the run went back to an earlier step and was resumed there, what had been recorded from
    that step on is left out. `Records.branches` lists what was left out.

    Args:
        directory: the run directory, local or any that fsspec knows ("s3://...").
        branch: read the run as it stood before its resume of this number, counted from 0.
        strict: raise at a file that is damaged or missing. If left out, such files are named in
            one notice and in `Records.unreadable`, and the rest is read.

    Raises:
        NotARun: `directory` holds no run, or one of a newer version.
        RunDirectoryError: with `strict`, a file in it is damaged or missing.
        InvalidArgument: there is no such branch.
    """
    run = RunDirectory(place_of("read", directory))
    while True:
        text = run.read_text()
        parts = Parts(run.path, strict=strict)
        parts.hold(Branches(sound_events(run.events, parts), branch), run.folders)
        try:
            records = _records(run, text, parts, branch)
        except RunDirectoryError:
            if run.read_text() == text:
                raise
        else:
            # A resume may have changed what its rows and settings mean, and which count.
            if records is not None and run.read_text() == text:
                parts.announce()
                return records


def read_info(directory: str | os.PathLike[str]) -> RunInfo:
    """The facts of a run without its data: groups, settings, versions.

    Raises:
        NotARun: `directory` holds no run, or one of a newer version.
    """
    return RunDirectory(place_of("read_info", directory)).read_info()


def steps_at_close(directory: str | os.PathLike[str]) -> list[int] | None:
    """The next step of each optimizer when a run was last closed; None if it was killed."""
    run = RunDirectory(place_of("steps_at_close", directory))
    parts = Parts(run.path)
    events = sound_events(run.events, parts)
    parts.announce()
    ends = [e for e in events if e["kind"] in (EventKind.CLOSED, EventKind.RESUMED)]
    return ends[-1]["steps"] if ends and ends[-1]["kind"] == EventKind.CLOSED else None


def _records(run: RunDirectory, text: str, parts: Parts, branch: int | None) -> Records | None:
    """What a run has recorded; None if it was resumed meanwhile."""
    info = RunInfo.from_json(text, where=str(run.info))
    bounds = _bounds(info)
    parts.pin(functools.partial(_began_at, run, info.created))
    # Rows come before settings: the writer stores them in the other order, so none lacks its own.
    if version_of(text) == 1:
        settings = [pa.field(name, pa.float64()) for name in SETTINGS]
        rows = _rows(parts, run, info, pa.schema([*row_schema(), *settings]), bounds)
        changes = None
    else:
        rows = _rows(parts, run, info, row_schema(info.products), bounds)
        changes = _changes(parts, run.settings, bounds)
        if len(rows.steps):
            parts.expect(run.settings)
    late = LateTables(run, parts, info, bounds)
    scalars = scalar_series(_scalars(parts, run.scalars, bounds))
    # Events come last, so that none of a step that was read is missing.
    branches = Branches(sound_events(run.events, parts), branch)
    if not branches.is_as(parts.branches):
        return None
    events = branches.events
    # A copy may leave out empty folders, so only that of a run that recorded something is missed.
    if scalars or (changes and len(changes["step"])) or any(_steps_taken(e) for e in events):
        parts.expect(run.records)
    late.check()
    return Records(
        directory=run.path,
        info=info,
        scalars=scalars,
        events=events,
        columns=rows,
        changes=changes,
        load_cells=late.cells,
        load_correlations=late.correlations,
        load_audits=late.audits,
        load_audit_steps=late.audit_steps,
        load_branches=lambda: branches.summaries(parts.of_all_branches().steps(run.records)),
        parts=parts,
    )


def _steps_taken(event: Event) -> bool:
    """Whether an event says that the run had taken steps."""
    return event["kind"] == EventKind.CLOSED and any(event["steps"])


def _bounds(info: RunInfo) -> Bounds:
    """How many of each thing the tables number."""
    return {
        "step": MOST_STEP,
        "slice": len(info.slices),
        "param_group": len(info.param_groups),
        "group": len(info.groups),
        "parameter": len(info.parameters),
        "optimizer": MOST_STEP,
    }


def _scalars(parts: Parts, directory: Path, bounds: Bounds) -> pa.Table:
    found = parts.read(directory, lambda file: whole_part(file, SCALAR_SCHEMA, bounds))
    return pa.concat_tables([SCALAR_SCHEMA.empty_table(), *found])


def _rows(
    parts: Parts, run: RunDirectory, info: RunInfo, schema: pa.Schema, bounds: Bounds
) -> SliceColumns:
    """The rows of the run as they are now; their products are read on demand."""
    content = functools.partial(survey_of, schema=schema, bounds=bounds)
    found = parts.read_numbered(run.records, content)
    parts.tell_steps([(part, None if own is None else own.steps) for part, own in found])
    limit = functools.partial(parts.branches.limit, run.records.name)
    surveys = [(segment, survey) for segment, survey in found if survey is not None]
    rows = StoredRows(PinnedParts(parts, run.records, surveys, limit), schema)
    width = len(info.slices)
    return SliceColumns(rows, range(width), width, PRODUCTS[: info.products])


def _began_at(run: RunDirectory, created: str) -> bool:
    """Whether the run that is there now began at this time."""
    try:
        return parse_document(run.read_text()).get("created") == created
    except (NotARun, ValueError):
        return False


def _changes(parts: Parts, directory: Path, bounds: Bounds) -> Columns:
    """The table of settings. After a part that cannot be read they are unknown until told again.

    An unknown change takes effect after the last step of the part before it at the earliest.
    """
    content = functools.partial(_arrays, schema=SETTINGS_SCHEMA, bounds=bounds)
    param_groups = bounds["param_group"]
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


def _arrays(file: pq.ParquetFile, schema: pa.Schema, bounds: Bounds) -> dict[str, NDArray[Any]]:
    """The columns of one file."""
    check_columns(schema, file.schema_arrow)
    check_counts(file)
    found: dict[str, NDArray[Any]] = {}
    for field in schema:
        found[field.name] = column_of(file, field)
        if field.name in bounds:
            check_column(field.name, found[field.name], bounds[field.name])
    return found
