"""Audited steps as columns: what was replayed, per parameter and per optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spherical_motion.records.schema import AUDIT_SCHEMA, AUDIT_STEP_SCHEMA
from spherical_motion.records.settings import lasting

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AuditSeries:
    """Audited steps of parameters, sorted by parameter and step; each column has shape (rows,).

    `step` and `parameter` say what a row is of, the others are `schema.AUDIT_SUMS`: w is the
    weights before the step, d the step, e the step that the optimizer's rule makes, g the gradient
    before it. NaN where a number was not determined.

    >>> len(AuditSeries.empty().of(0))
    0
    """

    step: NDArray[np.int64]
    parameter: NDArray[np.int32]
    ww: Array
    wd: Array
    we: Array
    dd: Array
    ee: Array
    de: Array
    miss_sq: Array
    allowed_sq: Array
    lost: Array
    peak: Array
    rewritten: Array
    gg: Array
    wg: Array
    epsilon: Array
    eval_mode: Array
    replaced: Array
    at_peak: Array
    largest: Array
    counter: Array
    taken: Array

    def of(self, parameter: int) -> AuditSeries:
        """The rows of one parameter, by its number in `RunInfo.parameters`; increasing steps."""
        return _chosen(self, _run_of(self.parameter, parameter))

    def within(self, start: int, stop: int) -> AuditSeries:
        """The rows of steps `start <= step < stop`."""
        return _chosen(self, (self.step >= start) & (self.step < stop))

    def renumbered(self, parameters: Sequence[int]) -> AuditSeries:
        """The rows of these parameters alone; the new number of each is its place here."""
        found = [self.of(parameter) for parameter in parameters]
        columns = {
            field.name: np.concatenate([getattr(series, field.name) for series in found])
            for field in dataclasses.fields(self)
        }
        counts = [len(series) for series in found]
        numbers = np.repeat(np.arange(len(found), dtype=np.int32), counts)
        return AuditSeries(**{n: _frozen(c) for n, c in (columns | {"parameter": numbers}).items()})

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        steps, parameters = len(np.unique(self.step)), len(np.unique(self.parameter))
        return f"AuditSeries({steps} steps of {parameters} parameters)"

    @classmethod
    def empty(cls) -> AuditSeries:
        """Of a run that was not audited."""
        return cls.from_table(AUDIT_SCHEMA.empty_table())

    @classmethod
    def from_table(cls, table: pa.Table) -> AuditSeries:
        """From a table of `AUDIT_SCHEMA`, in the order of writing."""
        return cls(**_columns(table, "parameter"))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AuditStepSeries:
    """Audited steps of optimizers, sorted by optimizer and step; each column has shape (rows,).

    `counter` is the optimizer's own count of its steps, `taken` the steps that it was seen to take
    since its state was empty, `grad_norm` the norm of all gradients before the step, `skipped` why
    the step was not replayed ("" if it was). NaN where a number was not determined.
    """

    step: NDArray[np.int64]
    optimizer: NDArray[np.int32]
    counter: Array
    taken: Array
    grad_norm: Array
    skipped: NDArray[np.object_]

    def of(self, optimizer: int) -> AuditStepSeries:
        """The rows of one optimizer, by its number in the run; increasing steps."""
        return _chosen(self, _run_of(self.optimizer, optimizer))

    def within(self, start: int, stop: int) -> AuditStepSeries:
        """The rows of steps `start <= step < stop`."""
        return _chosen(self, (self.step >= start) & (self.step < stop))

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        return f"AuditStepSeries({len(self)} steps)"

    @classmethod
    def empty(cls) -> AuditStepSeries:
        """Of a run that was not audited."""
        return cls.from_table(AUDIT_STEP_SCHEMA.empty_table())

    @classmethod
    def from_table(cls, table: pa.Table) -> AuditStepSeries:
        """From a table of `AUDIT_STEP_SCHEMA`, in the order of writing."""
        return cls(**_columns(table, "optimizer"))


Columns = TypeVar("Columns", AuditSeries, AuditStepSeries)


def _run_of(numbers: NDArray[np.int32], number: int) -> slice:
    """Where one number stands in sorted ones."""
    first, stop = np.searchsorted(numbers, (number, number + 1))
    return slice(first, stop)


def _chosen(series: Columns, rows: NDArray[np.bool_] | slice) -> Columns:
    names = (field.name for field in dataclasses.fields(series))
    return type(series)(**{name: getattr(series, name)[rows] for name in names})


def _columns(table: pa.Table, subject: str) -> Mapping[str, Any]:
    """The rows that no later row undid, sorted by `subject` and step."""
    columns = {name: table[name].to_numpy() for name in table.column_names}
    kept = [np.zeros(0, np.intp)]
    by_number = np.argsort(columns[subject], kind="stable")
    starts = np.flatnonzero(np.diff(columns[subject][by_number])) + 1
    for rows in np.split(by_number, starts):
        kept.append(rows[lasting(columns["step"][rows])])
    order = np.concatenate(kept)
    return {name: _frozen(column[order]) for name, column in columns.items()}


def _frozen(column: NDArray[Any]) -> NDArray[Any]:
    column.flags.writeable = False
    return column
