"""Damage parts of tables."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from full_run import PARTS, TABLES, part_of

from spherical_motion.records.files.checksum import BLANK, MARK

WHOLE = (-1, -(2**62), 0, 1, 2**31 - 1, 2**53, 2**62, 2**63 - 1, 99)
FLOATS = (0.0, -1.0, 1e308, -1e308, 1e-308, float("nan"), float("inf"), -float("inf"))


def some_part(directory: Path, rng: random.Random) -> Path:
    """A part of any table."""
    return part_of(directory, rng.choice(TABLES), rng.randrange(PARTS))


def truncated(directory: Path, rng: random.Random) -> str:
    """A part ends early, or has bytes behind its end."""
    path = some_part(directory, rng)
    whole = path.read_bytes()
    cut = rng.choice((0, 1, 4, 8, 12, rng.randrange(len(whole)), len(whole) - 1))
    path.write_bytes(whole[:cut] if rng.random() < 0.8 else whole + rng.randbytes(50))
    return f"{path.parent.name}, {cut}"


def flipped(directory: Path, rng: random.Random) -> str:
    """Some bits of a part are others; in half of the cases its checksum is taken out."""
    path = some_part(directory, rng)
    damaged = bytearray(path.read_bytes())
    blank = rng.random() < 0.5
    if blank:
        place = damaged.rfind(MARK) + len(MARK)
        damaged[place : place + len(BLANK)] = BLANK
    end = len(damaged) - 700 if rng.random() < 0.5 else 0  # the footer is what parsers trust
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        damaged[rng.randrange(max(end, 0), len(damaged))] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    return f"{path.parent.name}{', no checksum' if blank else ''}"


def other_schema(directory: Path, rng: random.Random) -> str:
    """A part has other columns, or columns of other types."""
    path = some_part(directory, rng)
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    how = rng.choice(("drop", "rename", "double", "type", "null", "shuffle", "struct", "nothing"))
    if how == "drop":
        table = table.drop_columns(name)
    elif how == "rename":
        table = table.rename_columns(["odd" if n == name else n for n in table.column_names])
    elif how == "double":
        table = table.append_column(name, table[name])
    elif how == "type":
        to = rng.choice(
            (pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.bool_())
        )
        values = [0] * len(table) if not pa.types.is_string(to) else ["x"] * len(table)
        table = table.set_column(place, name, pa.array(values).cast(to))
    elif how == "null":
        values = table[name].to_pylist()
        values[rng.randrange(len(values))] = None
        table = table.set_column(place, name, pa.array(values, table[name].type))
    elif how == "shuffle":
        table = table.select(rng.sample(table.column_names, table.num_columns))
    elif how == "struct":
        table = table.set_column(place, name, pa.array([{"a": [1]}] * len(table)))
    else:
        table = table.slice(0, 0)
    pq.write_table(table, path)
    return f"{path.parent.name}.{name}: {how}"


def other_values(directory: Path, rng: random.Random) -> str:
    """A column has values that no writer writes."""
    path = some_part(directory, rng)
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    kind = table[name].type
    values = table[name].to_pylist()
    rows = range(len(values)) if rng.random() < 0.3 else [rng.randrange(len(values))]
    for row in rows:
        if pa.types.is_integer(kind):
            limit = 2**31 - 1 if kind == pa.int32() else 2**63 - 1
            values[row] = max(min(rng.choice(WHOLE), limit), -limit - 1)
        elif pa.types.is_floating(kind):
            values[row] = rng.choice(FLOATS)
        elif pa.types.is_list(kind):
            values[row] = rng.choice(([], [1.0], [None], [float("nan")] * 7, None, [0.0] * 5000))
        else:
            values[row] = rng.choice(("", "x", "\x1b[31m", "n" * 100_000, None))
    table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    pq.write_table(table, path)
    return f"{path.parent.name}.{name}"


def many_rows(directory: Path, rng: random.Random) -> str:
    """A small file with very many rows, all alike."""
    path = some_part(directory, rng)
    table = pq.read_table(path).slice(0, 1)
    rows = rng.choice((100_000, 1_000_000))
    if any(pa.types.is_nested(field.type) for field in table.schema):
        rows //= 20
    table = table.take(pa.array(np.zeros(rows, np.int64)))
    pq.write_table(table, path, compression="zstd")
    return f"{path.parent.name}: {rows}"


def foreign(directory: Path, rng: random.Random) -> str:
    """A part of another table, or no part at all, under its name."""
    path, other = some_part(directory, rng), some_part(directory, rng)
    content = rng.choice((other.read_bytes(), b"PAR1" * 3, rng.randbytes(500), b"{}", bytes(9999)))
    path.write_bytes(content)
    return f"{path.parent.name} from {other.parent.name}"


def claimed_rows(directory: Path, rng: random.Random) -> str:
    """A footer that claims rows that are not there; its checksum is taken out."""
    path = some_part(directory, rng)
    whole = bytearray(path.read_bytes())
    rows = pq.ParquetFile(path).metadata.num_rows
    place = whole.rfind(MARK) + len(MARK)
    whole[place : place + len(BLANK)] = BLANK
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    small = bytes([2 * rows & 0x7F | 0x80, 2 * rows >> 7]) if rows > 63 else bytes([2 * rows])
    places = [i for i in range(footer, len(whole) - 9) if whole[i : i + len(small)] == small]
    for i in rng.sample(places, min(len(places), rng.choice((1, 2, 99)))):
        whole[i : i + len(small)] = b"\xfe\x7f"[: len(small)] if len(small) == 2 else b"\x7e"
    path.write_bytes(whole)
    return path.parent.name
