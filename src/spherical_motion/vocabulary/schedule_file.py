"""Read a schedule from a table with one row for each change."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument

MOST_BYTES = 64 << 20
"""The longest table that is read."""

SETTINGS = ("lr", "weight_decay", "momentum")


def read_table(
    path: str | os.PathLike[str], steps: int | None, steps_per_epoch: int | None
) -> dict[str, NDArray[np.float64]]:
    """Settings at each step by name ("lr" always, the others if the table has them).

    Raises:
        InvalidArgument: the file cannot be read as such a table; the message names the line.
    """
    (_, cells), *rows = _rows(path)
    header = [name.strip() for name in cells]
    counter = _counter(path, header)
    if not rows:
        raise InvalidArgument(f"{path}: a header and no rows below it.")
    table = np.array([_numbers(path, line, row, header) for line, row in rows])
    scale = 1
    if counter == "epoch":
        if steps_per_epoch is None:
            raise InvalidArgument(f"{path} counts epochs: steps_per_epoch=... is needed.")
        scale = checks.whole("Schedule", "steps_per_epoch", steps_per_epoch, least=1)
    at = table[:, header.index(counter)]
    _check_counter(path, counter, at, [line for line, _ in rows])
    starts = np.round(at * scale).astype(np.int64)
    total = int(starts[-1]) + scale
    if steps is not None:
        total = checks.whole("Schedule", "steps", steps, least=1)
    checks.count_of_steps("Schedule", "steps", total)
    if total <= starts[-1]:
        raise InvalidArgument(
            f"{path}: its last row starts at step {starts[-1]:,}, but steps={total:,}."
        )
    lasts = np.diff([*starts, total])
    columns = {name: table[:, i] for i, name in enumerate(header) if name != counter}
    return {name: np.repeat(column, lasts) for name, column in columns.items()}


def _rows(path: str | os.PathLike[str]) -> list[tuple[int, list[str]]]:
    """Lines that are not blank, with their numbers."""
    try:
        with Path(path).open("rb") as file:
            found = file.read(MOST_BYTES + 1)  # a device may have no end
        if len(found) > MOST_BYTES:
            raise InvalidArgument(
                f"{path} has more than {MOST_BYTES:,} bytes. Write a row for each change alone."
            )
        text = found.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read as CSV: {error}.") from error
    reader = csv.reader(text.splitlines())
    rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    if not rows:
        raise InvalidArgument(f"{path} is empty; expected a header like step,lr,weight_decay.")
    return rows


def _counter(path: str | os.PathLike[str], header: Sequence[str]) -> str:
    counters = [name for name in ("step", "epoch") if name in header]
    if len(counters) != 1 or len(set(header)) != len(header):
        raise InvalidArgument(
            f"{path}: the header must have one column step or epoch, then lr and perhaps "
            f"weight_decay and momentum, each once; got {', '.join(header)}."
        )
    unknown = set(header) - {*SETTINGS, counters[0]}
    if unknown:
        raise InvalidArgument(
            f"{path}: unknown columns {', '.join(sorted(unknown))}; expected {counters[0]}, "
            f"{', '.join(SETTINGS)}."
        )
    if "lr" not in header:
        raise InvalidArgument(f"{path}: no column lr, got {', '.join(header)}.")
    return counters[0]


def _numbers(
    path: str | os.PathLike[str], line: int, row: Sequence[str], header: Sequence[str]
) -> list[float]:
    try:
        values = [float(cell) for cell in row]
    except ValueError as error:
        raise InvalidArgument(f"{path}, line {line}: {error}.") from error
    if len(values) != len(header):
        raise InvalidArgument(
            f"{path}, line {line}: {len(header)} cells expected, got {len(values)}."
        )
    for name, value in zip(header, values, strict=True):
        upper, limit = (1.0, " and < 1") if name == "momentum" else (math.inf, "")
        if not 0.0 <= value < upper:
            raise InvalidArgument(
                f"{path}, line {line}: {name} must be finite, >= 0{limit}, got {value}."
            )
    return values


def _check_counter(
    path: str | os.PathLike[str], counter: str, at: NDArray[np.float64], lines: Sequence[int]
) -> None:
    if at[0] != 0.0:
        raise InvalidArgument(
            f"{path}, line {lines[0]}: the first {counter} must be 0, got {at[0]:g}."
        )
    if (falls := np.flatnonzero(np.diff(at) <= 0)).size:
        i = int(falls[0])
        raise InvalidArgument(
            f"{path}, line {lines[i + 1]}: {counter} must increase from row to row, got "
            f"{at[i + 1]:g} after {at[i]:g}."
        )
    if counter == "step" and (at % 1.0).any():
        i = int(np.argmax(at % 1.0 > 0))
        raise InvalidArgument(f"{path}, line {lines[i]}: step must be whole, got {at[i]:g}.")
