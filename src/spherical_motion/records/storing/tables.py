"""What waits to be stored, as tables of the columns that a run has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.notices import described
from spherical_motion.records.pending import (
    AuditBlock,
    AuditStepRow,
    CellBlock,
    CorrelationRow,
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

UNFIT = (ValueError, TypeError, OverflowError, pa.ArrowException)
"""What is raised where input fits into no table; text that is no Unicode is a ValueError."""

Item = TypeVar("Item", bound=tuple[Any, ...])
"""What waits, its step first."""


def warm_up() -> None:
    """Make pyarrow import what it needs on first use, half a second if pandas is installed.

    Later this would delay training, and at exit, when imports fail, it would lose the last data.
    """
    rows = row_table([RowBlock(0, np.zeros((1, 6)), np.zeros(1, np.int32))], row_schema())
    settings = settings_table([SettingsRow(0, 0, np.zeros(4))], first=0)
    scalars = scalar_table([(0, {"loss": 0.0})])
    cells = cell_table([CellBlock(0, 0, np.zeros((1, 6)))])
    correlations = correlation_table([CorrelationRow(0, 0, np.zeros(1), 0.0)])
    audits = audit_table([AuditBlock(0, np.zeros((1, len(AUDIT_SUMS))), np.zeros(1, np.int32))])
    audit_steps = audit_step_table([AuditStepRow(0, 0, np.zeros(3), "")])
    for table in (rows, settings, cells, scalars, correlations, audits, audit_steps):
        pq.write_table(table, pa.BufferOutputStream(), write_page_checksum=True)


def tables_of(
    items: Sequence[Item], make: Callable[[Sequence[Item]], pa.Table]
) -> tuple[list[pa.Table], dict[int, str]]:
    """What waits as tables, and by step why an item of it is left out.

    It is one table, unless an item cannot be put into one; then it is one for each other item.
    """
    try:
        return [make(items)], {}
    except UNFIT as error:
        if len(items) == 1:
            return [], {int(items[0][0]): described(error)}
    found: list[pa.Table] = []
    left: dict[int, str] = {}
    for item in items:
        tables, why = tables_of([item], make)
        found += tables
        left |= why
    return found, left


def row_table(blocks: Sequence[RowBlock], schema: pa.Schema) -> pa.Table:
    counts = [len(block.slices) for block in blocks]
    return _table(
        schema,
        np.repeat([block.step for block in blocks], counts),
        np.concatenate([block.slices for block in blocks]),
        *np.concatenate([block.gram for block in blocks]).T,
    )


def settings_table(rows: Sequence[SettingsRow], first: int) -> pa.Table:
    return _table(
        SETTINGS_SCHEMA,
        np.array([row.step for row in rows]),
        np.array([first + row.param_group for row in rows]),
        *np.stack([row.values for row in rows]).T,
    )


def correlation_table(rows: Sequence[CorrelationRow]) -> pa.Table:
    columns = {
        "step": [row.step for row in rows],
        "group": [row.group for row in rows],
        "rho": [row.rho for row in rows],
        "update_sq": [row.update_sq for row in rows],
    }
    return pa.table(columns, schema=CORRELATION_SCHEMA)


def audit_table(blocks: Sequence[AuditBlock]) -> pa.Table:
    return _table(
        AUDIT_SCHEMA,
        np.repeat([block.step for block in blocks], [len(block.parameters) for block in blocks]),
        np.concatenate([block.parameters for block in blocks]),
        *np.concatenate([block.sums for block in blocks]).T,
    )


def audit_step_table(rows: Sequence[AuditStepRow]) -> pa.Table:
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


def cell_table(blocks: Sequence[CellBlock]) -> pa.Table:
    ends = np.cumsum([0, *(len(block.gram) for block in blocks)], dtype=np.int32)
    values = np.ascontiguousarray(np.concatenate([block.gram for block in blocks]).T)
    columns = [
        pa.array([block.step for block in blocks], pa.int64()),
        pa.array([block.group for block in blocks], pa.int32()),
        *(pa.ListArray.from_arrays(pa.array(ends), pa.array(column)) for column in values),
    ]
    return pa.table(columns, schema=CELL_SCHEMA)


def scalar_table(given: Sequence[tuple[int, Mapping[str, object]]]) -> pa.Table:
    """Scalars that have been read, as a table."""
    rows = [
        {"step": step, "name": name, "value": value}
        for step, scalars in given
        for name, value in scalars.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCALAR_SCHEMA)
