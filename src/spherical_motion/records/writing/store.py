"""Store rows, settings, scalars and events in the files of a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from spherical_motion.errors import RunDirectoryError
from spherical_motion.notices import described
from spherical_motion.records.directory import RunDirectory, claim
from spherical_motion.records.files.branches import Branches, next_step_of
from spherical_motion.records.files.durable import sync_names
from spherical_motion.records.files.events import Event, append_events, make_event
from spherical_motion.records.files.segments import Segment, SegmentStore, largest_step
from spherical_motion.records.info import RunInfo
from spherical_motion.records.parts import Parts
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
from spherical_motion.records.validation import sound_events
from spherical_motion.records.writing.continuing import GoesOn, continue_run
from spherical_motion.records.writing.pending import Pending
from spherical_motion.records.writing.tables import (
    Item,
    audit_step_table,
    audit_table,
    cell_table,
    correlation_table,
    row_table,
    scalar_table,
    settings_table,
    tables_of,
    warm_up,
)
from spherical_motion.vocabulary import EventKind
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS


class RunStore:
    """A claimed run directory, to which a `RunWriter` writes; it raises the errors of the disk.

    Args:
        directory: the paths of the run.
        info: its facts.
        resume: go on with the run that is there.
        first_step: with `resume`, where to go on, giving up what was recorded from there on; None
            for where it was closed, or past all that it recorded.

    Attributes:
        next_step: where the run goes on.
        goes_on: the same, and what it gives up; None for a new run.
        left_out: names of tables of which something could not be stored, and why.

    Raises:
        RunExists, RunInUse, NotARun, RunDirectoryError: the directory cannot be used.
    """

    def __init__(
        self,
        directory: RunDirectory,
        info: RunInfo,
        *,
        resume: bool,
        first_step: int | None = None,
    ) -> None:
        warm_up()
        self._directory = directory
        self._schema = row_schema(info.products)
        self._merging = True
        self.left_out: dict[str, str] = {}
        self._lock = claim(directory, info, resume=resume)
        try:
            # The first of `info.param_groups` among those of the run.
            self._first = continue_run(directory, info) if resume else 0
            events = sound_events(directory.events, Parts(directory.path))
            self._open_tables(Branches(events))
            self.next_step = 0
            self.goes_on: GoesOn | None = None
            if resume:
                last = self._last_step(Branches(events))
                self.next_step = next_step_of(events, last) if first_step is None else first_step
                before = sum(event["kind"] == EventKind.RESUMED for event in events)
                self.goes_on = GoesOn(self.next_step, last, before)
                self._append([self._resumed(info, gives_up=first_step is not None)])
        except RunDirectoryError:
            self._lock.release()
            raise
        except OSError as error:
            self._lock.release()
            raise RunDirectoryError(
                f"{directory.path} cannot be written ({error.strerror or error}). Use a directory "
                "that can."
            ) from error
        except BaseException:
            self._lock.release()
            raise

    def _open_tables(self, before: Branches) -> None:
        def opened(folder: Path, schema: pa.Schema, noise: Sequence[str]) -> _RunTable:
            starts = [r.parts[folder.name] for r in before.resumes if folder.name in r.parts]
            starts.append(before.written(folder.name))  # a lost part keeps its number
            return _RunTable(folder, schema, noise, starts, self._lock.check)

        at = self._directory
        self._rows = opened(at.records, self._schema, PRODUCTS)
        self._settings = opened(at.settings, SETTINGS_SCHEMA, ("lr",))
        self._scalars = opened(at.scalars, SCALAR_SCHEMA, ("value",))
        self._cells = opened(at.cells, CELL_SCHEMA, FIELDS)
        self._correlations = opened(at.correlation, CORRELATION_SCHEMA, ("rho", "update_sq"))
        self._audits = opened(at.audit, AUDIT_SCHEMA, AUDIT_SUMS)
        self._audit_steps = opened(at.audit_steps, AUDIT_STEP_SCHEMA, ("grad_norm",))
        self._tables = {
            table.name: table
            for table in (
                *(self._rows, self._settings, self._scalars, self._cells, self._correlations),
                *(self._audits, self._audit_steps),
            )
        }

    def _last_step(self, before: Branches) -> int:
        """The last step at which anything was recorded, without what was given up.

        Settings are recorded before the step from which they hold, so they say that it was next.
        """
        found = [-1]
        for table in self._tables.values():
            for segment in table.segments:
                try:
                    step = largest_step(segment.path, before.limit(table.name, segment.first))
                except RunDirectoryError:
                    if table is self._rows:
                        raise
                    continue  # a reader names it
                found.append(step - 1 if table is self._settings else step)
        return max(found)

    @property
    def _numbers(self) -> dict[str, int]:
        """The number of the next part of each table."""
        return {name: table.next_number for name, table in self._tables.items()}

    def _resumed(self, info: RunInfo, *, gives_up: bool) -> Event:
        return make_event(
            EventKind.RESUMED,
            self.next_step,
            segments=self._numbers,
            gives_up=gives_up,
            param_groups=info.param_groups,
            every=info.every,
            burst=info.burst,
            versions=info.versions,
            command=info.command,
            commit=info.commit,
        )

    def _append(self, events: Sequence[Event]) -> None:
        self._lock.check()
        append_events(self._directory.events, events)

    def write(self, pending: Pending) -> None:
        """Store everything that tables can hold; after this returns, it survives a power cut.

        Rows come late, so that none is without the settings of its step. A run that is killed in
        between goes on after the last step of any table. Last comes the event of its end, which
        says how many parts there are, so that a reader can tell what was lost later.
        """
        ends = [event for event in pending.events if event["kind"] == EventKind.CLOSED]
        self._add(self._scalars, pending.scalars, scalar_table)
        if len(pending.events) > len(ends):
            self._append([event for event in pending.events if event not in ends])
        self._add(self._cells, pending.cells, cell_table)
        self._add(self._correlations, pending.correlations, correlation_table)
        self._add(self._audits, pending.audits, audit_table)
        self._add(self._audit_steps, pending.audit_steps, audit_step_table)
        self._add(self._settings, pending.settings, lambda s: settings_table(s, self._first))
        self._add(self._rows, pending.rows, lambda rows: row_table(rows, self._schema))
        if ends:
            self._append([{**event, "segments": self._numbers} for event in ends])

    def _add(
        self,
        table: _RunTable,
        items: Sequence[Item],
        make: Callable[[Sequence[Item]], pa.Table],
    ) -> None:
        """Store items; one that fits into no table is left out, with an event the first time."""
        if not items:
            return
        tables, left = tables_of(items, make)
        for step, why in left.items():
            if table.name not in self.left_out:
                self.left_out |= {table.name: why}
                event = make_event(EventKind.SKIPPED, step, name=table.name, reason=why)
                self._append([event])
        if tables:
            table.append(pa.concat_tables(tables))

    def merge(self) -> None:
        """Merge small segments into larger ones if there are enough.

        A merge needs disk space for a copy of its parts. If it fails, an event records the error
        and recording goes on in small segments until the run is resumed.
        """
        try:
            while self._merging and any(table.merge() for table in self._tables.values()):
                pass
        except (OSError, pa.ArrowException, ValueError) as error:
            self._merging = False
            self._append([make_event(EventKind.NOT_MERGED, reason=described(error))])

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()


class _RunTable:
    """A table whose directory is made when its first rows come; many runs never have any."""

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        noise: Sequence[str],
        boundaries: Sequence[int],
        check: Callable[[], object],
    ) -> None:
        self.name = directory.name
        self._directory, self._schema, self._noise = directory, schema, noise
        self._boundaries, self._check = boundaries, check
        self._store = self._opened() if directory.is_dir() else None

    @property
    def next_number(self) -> int:
        """The number of the segment that comes next."""
        return max(self._boundaries, default=0) if self._store is None else self._store.next_number

    @property
    def segments(self) -> list[Segment]:
        """The segments that it has."""
        return [] if self._store is None else self._store.segments

    def append(self, table: pa.Table) -> None:
        if self._store is None:
            self._check()
            os.mkdir(self._directory)
            sync_names(self._directory.parent)
            self._store = self._opened()
        self._store.append(table)

    def merge(self) -> bool:
        return self._store is not None and self._store.merge()

    def _opened(self) -> SegmentStore:
        return SegmentStore(
            self._directory,
            self._schema,
            self._noise,
            boundaries=self._boundaries,
            order="slice" if "slice" in self._schema.names else None,
            check=self._check,
        )
