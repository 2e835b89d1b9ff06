"""What is known of a part of the rows without its products: its steps, and where each row goes."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spherical_motion.records.reading.file_columns import OPTIONAL, column_of_group
from spherical_motion.records.reading.pieces import Ints, LooseRows, Piece, Rectangle, pieces_of
from spherical_motion.records.validation.table_rows import (
    Bounds,
    check_column,
    check_columns,
    check_counts,
)

Layout: TypeAlias = tuple[tuple[Piece, ...], ...]
"""The pieces of each row group of a file."""

STEP, SLICE = pa.field("step", pa.int64()), pa.field("slice", pa.int32())

Shared = TypeVar("Shared", bound=Ints)


class Survey(NamedTuple):
    """A part without its products.

    Attributes:
        rows: how many it has.
        steps: their distinct steps, increasing.
        layout: where the rows go; None if it takes much memory, see `layout_of`.
    """

    rows: int
    steps: Ints
    layout: Layout | None


def survey_of(file: pq.ParquetFile, schema: pa.Schema, bounds: Bounds) -> Survey:
    """Look at the steps and slices of a part.

    Args:
        file: the part.
        schema: the columns that it must have.
        bounds: how many steps and slices there may be.

    Raises:
        pyarrow.ArrowInvalid: it lacks a column, or has a slice that the run does not have.
    """
    check_columns(schema, file.schema_arrow, OPTIONAL)
    check_counts(file)
    steps: list[Ints] = [np.empty(0, np.int64)]
    layout: list[tuple[Piece, ...]] | None = []
    known: dict[bytes, Ints] = {}
    for group in range(file.metadata.num_row_groups):
        pieces = _pieces_of_group(file, group)
        for piece in pieces:
            check_column("step", piece.steps, bounds["step"])
            check_column("slice", piece.slices, bounds["slice"])
            own = piece.steps if isinstance(piece, Rectangle) else np.unique(piece.steps)
            steps.append(_shared(own, known))
        if any(isinstance(piece, LooseRows) for piece in pieces):
            layout = None
        elif layout is not None:
            layout.append(tuple(_compact(piece, known) for piece in pieces))
    distinct = {id(own): own for own in steps}.values()
    return Survey(
        file.metadata.num_rows,
        np.unique(np.concatenate([*distinct])),
        None if layout is None else tuple(layout),
    )


def layout_of(file: pq.ParquetFile) -> Layout:
    """Where the rows of a part go."""
    return tuple(_pieces_of_group(file, g) for g in range(file.metadata.num_row_groups))


def _pieces_of_group(file: pq.ParquetFile, group: int) -> tuple[Piece, ...]:
    step, which = (column_of_group(file, field, group) for field in (STEP, SLICE))
    return tuple(pieces_of(step, which))


def _compact(piece: Piece, known: dict[bytes, Ints]) -> Piece:
    """The piece without the arrays of all rows behind it; equal arrays are one."""
    return piece._replace(slices=_shared(piece.slices, known), steps=_shared(piece.steps, known))


def _shared(values: Shared, known: dict[bytes, Shared]) -> Shared:
    return known.setdefault(values.dtype.char.encode() + values.tobytes(), values.copy())
