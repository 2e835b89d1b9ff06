"""Where the rows of a file go: most of them form rectangles of slices × steps.

A merged part has its rows slice by slice, a part as the writer made it step by step. Either way a
stretch of rows is a rectangle, which is copied as a whole. What is no rectangle is loose rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.integer[Any]]
Array = NDArray[np.float64]

MOST_STRETCHES = 64
"""So many rectangles at most are looked for in the rows of a row group."""


class Rectangle(NamedTuple):
    """Rows `start` on: each of some increasing slices at each of some increasing steps."""

    start: int
    slices: Ints
    steps: Ints
    by_slice: bool

    @property
    def rows(self) -> int:
        return len(self.slices) * len(self.steps)

    def of(self, column: Array) -> Array:
        """The values of its rows, shape (slices, steps)."""
        own = column[self.start : self.start + self.rows]
        if self.by_slice:
            return own.reshape(len(self.slices), len(self.steps))
        return own.reshape(len(self.steps), len(self.slices)).T


class LooseRows(NamedTuple):
    """Rows `start` on, each with its slice and step."""

    start: int
    slices: Ints
    steps: Ints

    @property
    def rows(self) -> int:
        return len(self.slices)


Piece: TypeAlias = Rectangle | LooseRows


def pieces_of(step: Ints, which: Ints) -> list[Piece]:
    """The rows of these steps and slices as rectangles, if they are few, or as loose rows.

    >>> [p.of(np.arange(6.0)).tolist() for p in pieces_of(np.array([7, 7, 8, 8, 9, 9]),
    ...                                                   np.array([0, 1, 0, 1, 0, 1]))]
    [[[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]]
    """
    if not len(step):
        return []
    loose: list[Piece] = [LooseRows(0, which, step)]
    by_slice, by_step = _starts(which), _starts(step)
    sliced = len(by_slice) <= len(by_step)
    starts, outer, inner = (by_slice, which, step) if sliced else (by_step, step, which)
    lengths = np.diff(starts, append=len(step))
    pieces: list[Piece] = []
    bounds = _starts(lengths).tolist()
    for first, stop in zip(bounds, [*bounds[1:], len(lengths)], strict=True):
        begin, length = int(starts[first]), int(lengths[first])
        rows = inner[begin : begin + (stop - first) * length].reshape(-1, length)
        new = np.flatnonzero(_differ(rows) | (np.diff(outer[starts[first:stop]]) <= 0)) + 1
        if len(bounds) + len(pieces) + len(new) > MOST_STRETCHES:
            return loose
        for i, j in zip([0, *new.tolist()], [*new.tolist(), stop - first], strict=True):
            if (np.diff(rows[i]) <= 0).any():
                return loose
            outside = outer[starts[first + i : first + j]]
            slices, steps = (outside, rows[i]) if sliced else (rows[i], outside)
            pieces.append(Rectangle(begin + i * length, slices, steps, sliced))
    return pieces


def put(piece: Piece, column: Array, into: Array, places: Ints, lines: Ints) -> None:
    """Copy the values of a piece to their places in an array of shape (columns, steps).

    Args:
        piece: where the rows go.
        column: the values of all rows of its row group.
        into: the array.
        places: per slice its column, -1 if it has none.
        lines: per step of the piece its line, -1 if it has none; see `lines_of`.
    """
    columns = places[piece.slices]
    if isinstance(piece, LooseRows):
        kept = (columns >= 0) & (lines >= 0)
        # Where a place is written twice, the later value stays.
        into[columns[kept], lines[kept]] = column[piece.start : piece.start + piece.rows][kept]
        return
    values = piece.of(column)
    if (columns < 0).any():
        values, columns = values[columns >= 0], columns[columns >= 0]
    if (lines < 0).any():
        values, lines = values[:, lines >= 0], lines[lines >= 0]
    if not len(columns) or not len(lines):
        return
    across, along = _range(columns), _range(lines)
    if isinstance(across, slice) or isinstance(along, slice):
        into[across, along] = values
    else:
        into[columns[:, None], lines] = values


def mark(piece: Piece, into: NDArray[np.bool_], places: Ints, lines: Ints) -> None:
    """Set True where a piece has rows; like `put`."""
    columns = places[piece.slices]
    if isinstance(piece, LooseRows):
        kept = (columns >= 0) & (lines >= 0)
        into[columns[kept], lines[kept]] = True
        return
    columns, lines = columns[columns >= 0], lines[lines >= 0]
    if len(columns) and len(lines):
        across = _range(columns)
        into[across if isinstance(across, slice) else columns[:, None], _range(lines)] = True


def lines_of(piece_steps: Ints, steps: Ints, limit: int | None) -> Ints:
    """The place of each step in increasing `steps`; -1 if it has none, or is not below `limit`."""
    lines = np.searchsorted(steps, piece_steps)
    unknown = steps[np.minimum(lines, len(steps) - 1)] != piece_steps if len(steps) else lines == 0
    if limit is not None:
        unknown |= piece_steps >= limit
    return np.where(unknown, -1, lines) if unknown.any() else lines


def _starts(values: Ints) -> Ints:
    """Where runs of equal values begin."""
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])


def _differ(rows: Ints) -> NDArray[np.bool_]:
    """Which rows of a matrix differ from the one before; without the first."""
    return (rows[1:] != rows[:-1]).any(axis=1)


def _range(numbers: Ints) -> slice | Ints:
    """Increasing numbers as a slice, if none is left out between them."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1 and (np.diff(numbers) == 1).all():
        return slice(first, last + 1)
    return numbers
