"""Read a run directory, also while it is written or after its writer was killed."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records.dense import latest
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.events import read_events
from spherical_motion.records.result import CellSeries, Records, Series
from spherical_motion.records.schema import CELL_SCHEMA, ROW_SCHEMA, SCALAR_SCHEMA, RunInfo
from spherical_motion.records.segments import Segment, current_segments
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
    info = run.read_info()
    rows = _load(run.records, ROW_SCHEMA)
    return Records(
        directory=run.path,
        info=info,
        scalars=_series(_load(run.scalars, SCALAR_SCHEMA)),
        events=read_events(run.events),
        rows=MappingProxyType({name: rows[name].to_numpy() for name in ROW_SCHEMA.names}),
        load_cells=functools.partial(_cells_of_group, run.cells),
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
    table = _load(directory, CELL_SCHEMA)
    table = table.filter(pa.array(table["group"].to_numpy() == number))
    step = table["step"].to_numpy()
    shape = (len(step), -1) if len(step) else (0, 0)
    chosen = latest(step)
    lists = (table[name].combine_chunks().flatten().to_numpy().reshape(shape) for name in FIELDS)
    return CellSeries(step[chosen], Gram(*(column[chosen] for column in lists)))


def _load(directory: Path, schema: pa.Schema) -> pa.Table:
    """The table in a directory of segments."""
    if not directory.is_dir():
        return schema.empty_table()
    tables: dict[Path, pa.Table] = {}
    for _ in range(LISTINGS):
        segments = _listing(directory)
        try:
            for segment in segments:
                if segment.path not in tables:
                    tables[segment.path] = _open(segment)
        except FileNotFoundError:
            continue  # merged into another segment since the listing
        return pa.concat_tables([schema.empty_table(), *(tables[s.path] for s in segments)])
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


def _open(segment: Segment) -> pa.Table:
    try:
        with pq.ParquetFile(segment.path) as file:
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise RunDirectoryError(
            f"{segment.path} is damaged ({error}). Restore it from a copy, or move it away to "
            "read the rest of the run."
        ) from error


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
