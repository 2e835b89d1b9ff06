"""A short run: it begins, merges, is resumed, goes back; and what must be read of it.

The number recorded at a step tells in which life of the run it was written.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spherical_motion.errors import NotARun, RunDirectoryError
from spherical_motion.records import AUDIT_SUMS, RunInfo, RunWriter, read
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files import segments
from spherical_motion.records.files.events import make_event
from spherical_motion.records.writing.pending import (
    AuditBlock,
    AuditStepRow,
    CellBlock,
    CorrelationRow,
    Pending,
    RowBlock,
    SettingsRow,
)
from spherical_motion.records.writing.store import RunStore
from spherical_motion.vocabulary import InvariantGroup, Slice

SLICE = Slice("conv.weight", 0, 0, 8)
GROUP = InvariantGroup("conv", "scale", (SLICE,), cells=((SLICE,),), numel=72)
INFO = RunInfo(
    groups=(GROUP,),
    param_groups=({"class": "SGD", "optimizer": 0, "lr": 0.1, "momentum": 0.9},),
    slice_param_group=(0,),
    created="2024-01-01T00:00:00+00:00",
)

FAN_IN = 3
"""Merges come as early as they can while parts of parts are merged too."""

Values = dict[int, float]


def pending_of(step: int, life: int) -> Pending:
    """All that a run can record at a step."""
    value = value_of(step, life)
    row = np.full((1, 6), value)
    return Pending(
        rows=[RowBlock(step, row, np.zeros(1, np.int32))],
        settings=[SettingsRow(step, 0, np.full(4, value))],
        cells=[CellBlock(step, 0, row)],
        correlations=[CorrelationRow(step, 0, np.array([1.0, value]), value)],
        audits=[AuditBlock(step, np.full((1, len(AUDIT_SUMS)), value), np.zeros(1, np.int32))],
        audit_steps=[AuditStepRow(step, 0, np.full(3, value), "")],
        scalars=[(step, {"loss": value})],
        events=[make_event("tick", step, value=value)],
    )


def value_of(step: int, life: int) -> float:
    """What is recorded at a step in a life."""
    return 1000.0 * life + step + 1.0


@dataclasses.dataclass
class Truth:
    """What must be read, and what may be.

    Attributes:
        begun: whether the run was begun, so that it must be there.
        stored: what was stored for certain.
        pending: what was being stored at the end.
        returned: what is left if a resume that was going on took effect; None if none was.
    """

    begun: bool = False
    stored: Values = dataclasses.field(default_factory=dict)
    pending: Values = dataclasses.field(default_factory=dict)
    returned: Values | None = None

    @property
    def alternatives(self) -> list[tuple[Values, Values]]:
        """What must be there and what may be, in each case that is right."""
        found = [(self.stored, self.pending)]
        return found if self.returned is None else [*found, (self.returned, {})]


@dataclasses.dataclass(frozen=True)
class Life:
    """One process of a run: where it goes on (None: where it was), and how many steps it takes."""

    first_step: int | None
    steps: int


LIVES = (Life(None, 5), Life(None, 2), Life(4, 3))
"""Begins; goes on; goes back to step 4."""


class Alone:
    """A writer without a thread, so that every call to the disk comes at the same place."""

    def __init__(self, directory: Path, *, resume: bool, first_step: int | None) -> None:
        self._store = RunStore(RunDirectory(directory), INFO, resume=resume, first_step=first_step)
        self.next_step = self._store.next_step

    def write(self, step: int, life: int) -> None:
        """Store a step."""
        self._store.write(pending_of(step, life))

    def merge(self) -> None:
        """Merge what can be merged."""
        self._store.merge()

    def close(self) -> None:
        """End."""
        self._store.close()


class Threaded:
    """The writer that a monitor uses; its thread stores and merges."""

    def __init__(self, directory: Path, *, resume: bool, first_step: int | None) -> None:
        self._writer = RunWriter(
            directory, INFO, resume=resume, first_step=first_step, flush_seconds=3600
        )
        self.next_step = self._writer.next_step

    def write(self, step: int, life: int) -> None:
        """Store a step."""
        value = value_of(step, life)
        writer = self._writer
        writer.settings(step, 0, (value,) * 4)
        writer.scalars(step, {"loss": value})
        writer.cells(step, 0, np.full((1, 6), value))
        writer.correlation(step, 0, [1.0, value], value)
        writer.audit(step, [0], np.full((1, len(AUDIT_SUMS)), value))
        writer.audit_step(step, 0, value, value, value, "")
        writer.event("tick", step=step, value=value)
        writer.rows(step, np.full((1, 6), value))
        writer.flush()

    @property
    def stopped(self) -> bool:
        """Whether a failure ended the recording."""
        return self._writer.failure is not None

    def merge(self) -> None:
        """Its thread merges."""

    def close(self) -> None:
        """End."""
        self._writer.close()


def live(
    directory: Path,
    truth: Truth,
    lives: Sequence[Life] = LIVES,
    kind: type[Alone] | type[Threaded] = Alone,
    promised: Callable[[], object] = lambda: None,
) -> None:
    """Live these lives; `truth` is right at every moment, `promised` is called when it grew."""
    fan_in, segments.FAN_IN = segments.FAN_IN, FAN_IN
    try:
        for number, life in enumerate(lives):
            goes_on = max(truth.stored, default=-1) + 1
            goes_on = goes_on if life.first_step is None else life.first_step
            if number:
                truth.returned = {s: v for s, v in truth.stored.items() if s < goes_on}
            try:
                writer = kind(directory, resume=number > 0, first_step=life.first_step)
            except OSError as error:
                if not isinstance(error, RunDirectoryError):
                    raise Wrong(f"an error that is not of ours: {error!r}") from error
                raise
            try:
                assert writer.next_step == goes_on
                if truth.returned is not None:
                    truth.stored, truth.returned = truth.returned, None
                truth.begun = True
                promised()
                for step in range(goes_on, goes_on + life.steps):
                    truth.pending = {step: value_of(step, number)}
                    writer.write(step, number)
                    truth.stored, truth.pending = truth.stored | truth.pending, {}
                    promised()
                    writer.merge()
            finally:
                writer.close()
    finally:
        segments.FAN_IN = fan_in


class Wrong(AssertionError):
    """Something that was stored is lost, or something is read that was not stored."""


def check(directory: Path, truth: Truth, life: int = 77) -> Values:
    """Compare what is read with the truth; then resume, record a step and compare again.

    Returns:
        What was read before the resume.

    Raises:
        Wrong: they differ.
    """
    cases = truth.alternatives if truth.begun else [({}, {})]
    tables = check_reading(directory, cases, begun=truth.begun)
    store = RunStore(RunDirectory(directory), INFO, resume=tables is not None)
    found = [{} for _ in range(7)] if tables is None else tables
    last = max((step for table in found for step in table), default=-1)
    try:
        step = store.next_step
        if step != last + 1:
            raise Wrong(f"the run goes on at {step}; its last step is {last}")
        store.write(pending_of(step, life))
        store.merge()
    finally:
        store.close()
    expected = [table | {step: value_of(step, life)} for table in found]
    if (now := _tables(directory)[0]) != expected:
        raise Wrong(f"after a resume read {now}; expected {expected}")
    if left := [path.name for path in directory.rglob("*") if path.suffix in (".tmp", ".probe")]:
        raise Wrong(f"left behind: {left}")
    return found[0]


def check_reading(
    directory: Path, cases: list[tuple[Values, Values]], *, begun: bool
) -> list[Values] | None:
    """All tables by step, the rows first, compared with what is right; None if there is no run.

    Raises:
        Wrong: none of the cases, of what must and what may be there, is found.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tables, told = _tables(directory)
    except NotARun:
        if begun:
            raise Wrong("the run is gone") from None
        return None
    for must, may in cases:
        # An event at the very step of a resume may be from before it, and stays.
        if must.items() <= told.items() and all(_between(table, must, may) for table in tables):
            return tables
    raise Wrong(f"read {tables}; expected one of (stored, pending) {cases}")


def _tables(directory: Path) -> tuple[list[Values], Values]:
    """What every table holds, the rows first, and what the events tell; by step."""
    records = read(directory, strict=True)
    cells, correlations = records.cells("conv"), records.correlations("conv")
    loss = records.scalars.get("loss")
    changes = records.changes or {"step": np.empty(0), "lr": np.empty(0)}
    columns = [
        (records.steps, records.gram.ww[:, 0]),
        (changes["step"], changes["lr"]),
        (cells.steps, cells.gram.dg[:, 0] if len(cells.steps) else []),
        (correlations.steps, correlations.update_sq),
        (records.audits.step, records.audits.miss_sq),
        (records.audit_steps.step, records.audit_steps.taken),
        (loss.steps, loss.values) if loss else ([], []),
    ]
    found = [dict(zip(map(int, s), map(float, values), strict=True)) for s, values in columns]
    return found, {e["step"]: e["value"] for e in records.events if e["kind"] == "tick"}


def _between(found: Values, must: Values, may: Values) -> bool:
    return must.items() <= found.items() and found.items() <= (must | may).items()
