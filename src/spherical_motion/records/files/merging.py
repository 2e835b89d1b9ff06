"""Write one part of a table, new or from other parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from spherical_motion.records.files.checksum import METADATA, seal
from spherical_motion.records.files.sorting import is_sorted, merged_by, row_groups, sorted_by

MERGE_ROWS = 1 << 20
"""Rows in memory during a merge, roughly, and the most of a row group."""

BATCH = MERGE_ROWS // 16
"""Rows of each part in memory while sixteen are merged."""


def write_part(
    file: BinaryIO,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    noise: Collection[str],
    order: str | None = None,
) -> None:
    """Write tables as one part, with its checksum.

    Args:
        file: where; open for reading, too.
        schema: the columns.
        tables: their rows, in order; a table is not spread over row groups of others.
        noise: columns that hold floats that never repeat.
        order: the column by which the rows of each table are to be sorted.
    """
    schema = schema.with_metadata(METADATA)
    with pq.ParquetWriter(file, schema, **_format(schema, noise, order)) as writer:
        for table in tables:
            table = table.replace_schema_metadata(METADATA)
            if order is None:
                writer.write_table(table)
                continue
            for piece in row_groups(sorted_by(table, order), order):
                writer.write_table(piece, row_group_size=max(len(piece), 1))
    seal(file)


def joint_schema(schema: pa.Schema, files: Sequence[pq.ParquetFile]) -> pa.Schema:
    """The columns of a table and those that only some of its parts have."""
    found = (file.schema_arrow.remove_metadata() for file in files)
    return pa.unify_schemas([schema, *found])


def rows_of(
    files: Sequence[pq.ParquetFile], schema: pa.Schema, order: str | None = None
) -> Iterator[pa.Table]:
    """The rows of parts in their order; sorted, if `order` is given and each of them is."""
    if order is not None and all(_is_sorted(file, order) for file in files):
        sources = [_tables(file, BATCH) for file in files]
        yield from merged_by(order, sources, lambda tables: _joined(schema, tables))
        return
    held: list[pa.Table] = []
    for file in files:
        for table in _tables(file, MERGE_ROWS):
            held.append(table)
            if sum(table.num_rows for table in held) >= MERGE_ROWS:
                yield _joined(schema, held)
                held = []
    if held:
        yield _joined(schema, held)


def _is_sorted(file: pq.ParquetFile, order: str) -> bool:
    last = None
    for group in range(file.metadata.num_row_groups):
        values = file.read_row_group(group, columns=[order], use_threads=False)[order].to_numpy()
        if len(values):
            if not is_sorted(values) or (last is not None and values[0] < last):
                return False
            last = values[-1]
    return True


def _tables(file: pq.ParquetFile, rows: int) -> Iterator[pa.Table]:
    for batch in file.iter_batches(rows, use_threads=False):
        yield pa.Table.from_batches([batch])


def _joined(schema: pa.Schema, tables: Sequence[pa.Table]) -> pa.Table:
    """The tables one below the other, with null in the columns that one of them lacks."""
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="default")


def _format(schema: pa.Schema, noise: Collection[str], order: str | None) -> dict[str, Any]:
    """Options of a file: checksums, and an encoding for each column.

    Noise is split into byte planes, since exponents compress and mantissas do not. All other
    columns repeat, and a dictionary makes them very small. Where rows are sorted, so are the other
    whole numbers for each value of the order; their differences are smaller still.
    """
    split = [
        f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
        for field in schema
        if field.name in noise
    ]
    steps = [f.name for f in schema if pa.types.is_integer(f.type) and f.name != order]
    differences = steps if order is not None else []
    options: dict[str, Any] = {
        "compression": "zstd",
        "column_encoding": dict.fromkeys(split, "BYTE_STREAM_SPLIT")
        | dict.fromkeys(differences, "DELTA_BINARY_PACKED"),
        "use_dictionary": [n for n in schema.names if n not in noise and n not in differences],
        "write_page_checksum": True,
    }
    if order is not None:
        options["sorting_columns"] = [pq.SortingColumn(schema.get_field_index(order))]
    return options
