"""The columns of one Parquet file as arrays, one row group at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spherical_motion.records.schema import SETTINGS
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

OPTIONAL = frozenset(PRODUCTS) - frozenset(FIELDS) | frozenset(SETTINGS)
"""Columns that a part of the rows may lack: it was written before they were measured, or since
settings have their own table."""


def column_of(file: pq.ParquetFile, field: pa.Field) -> NDArray[Any]:
    """A column of numbers of a whole file; NaN if it has none of this name, and for null."""
    array = np.empty(file.metadata.num_rows, field.type.to_pandas_dtype())
    first = 0
    for group in range(file.metadata.num_row_groups):
        values = column_of_group(file, field, group)
        array[first : first + len(values)] = values
        first += len(values)
    return array


def column_of_group(file: pq.ParquetFile, field: pa.Field, group: int) -> NDArray[Any]:
    """Like `column_of`, of one row group; read-only."""
    if field.name not in file.schema_arrow.names:
        return np.broadcast_to(np.nan, file.metadata.row_group(group).num_rows)
    # One column of one row group at a time takes little memory.
    column = file.read_row_group(group, columns=[field.name], use_threads=False)[field.name]
    if column.null_count and not pa.types.is_floating(column.type):
        raise pa.ArrowInvalid(f"its column {field.name} has gaps")
    return column.to_numpy()
