"""Rows of tables: numbers of steps and things that exist, and no more rows than memory holds."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.records.validation.values import MOST_WHOLE
from spherical_motion.vocabulary.gram import FIELDS

Bounds: TypeAlias = Mapping[str, int]
"""By column, how many things it numbers: its values lie from 0 to one less."""

MOST_STEP = MOST_WHOLE
"""The largest number of a step."""


def check_counts(file: pq.ParquetFile) -> None:
    """Raise ArrowInvalid if a part claims more rows than it can hold, or than memory can.

    A footer that claims more rows than its columns have would have arrays made for them.
    """
    rows, metadata = file.metadata.num_rows, file.metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if rows < 0 or rows != sum(group.num_rows for group in groups):
        raise pa.ArrowInvalid(f"it claims {rows:,} rows, which its row groups do not have")
    for group in groups:
        for i in range(group.num_columns):
            column = group.column(i)
            nested = "." in column.path_in_schema
            if column.num_values != group.num_rows and not nested:
                raise pa.ArrowInvalid(f"its column {column.path_in_schema} lacks rows")
    values = sum(g.column(i).num_values for g in groups for i in range(g.num_columns))
    if 8 * values > _memory():
        raise pa.ArrowInvalid(
            f"it claims {values:,} values, and {_memory() / 8:,.0f} fit into the memory of this "
            "machine"
        )


def check_columns(expected: pa.Schema, found: pa.Schema, optional: Collection[str] = ()) -> None:
    """Raise ArrowInvalid unless a part has the columns of a table once; it may have others."""
    for field in expected:
        count = found.names.count(field.name)
        if count > 1:
            raise pa.ArrowInvalid(f"it has {count} columns {field.name}")
        if not count and field.name not in optional:
            raise pa.ArrowInvalid(f"it has no column {field.name}")
        if count and found.field(field.name).type != field.type:
            raise pa.ArrowInvalid(f"its column {field.name} is not of type {field.type}")


def check_rows(table: pa.Table, bounds: Bounds) -> None:
    """Raise ArrowInvalid unless a table's columns lie within bounds and are without gaps."""
    for name, field in zip(table.column_names, table.schema, strict=True):
        column = table[name]
        if pa.types.is_floating(field.type):
            continue
        if column.null_count:
            raise pa.ArrowInvalid(f"its column {name} has gaps")
        if pa.types.is_list(field.type):
            if column.combine_chunks().flatten().null_count:
                raise pa.ArrowInvalid(f"lists in its column {name} have gaps")
        elif name in bounds:
            check_column(name, column.to_numpy(), bounds[name])


def check_cells(table: pa.Table, cells: Sequence[int]) -> None:
    """Raise ArrowInvalid unless each row of the cells has one entry for each cell of its group."""
    expected = np.array(cells, np.int64)[table["group"].to_numpy()]
    for name in FIELDS:
        if (table[name].combine_chunks().value_lengths().to_numpy() != expected).any():
            raise pa.ArrowInvalid(f"lists in its column {name} do not fit the cells of their group")


def check_column(name: str, values: NDArray[np.integer], count: int) -> None:
    """Raise ArrowInvalid unless all values lie from 0 to `count` - 1."""
    outside = (values < 0) | (values >= count)
    if outside.any():
        row = int(outside.argmax())
        raise pa.ArrowInvalid(
            f"its row {row:,} has {name} {values[row]}, which must lie from 0 to {count - 1}"
        )


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
