"""Turn rows in the order of writing into arrays of (steps, columns)."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The place of each row in an array of shape (steps, width).

    Attributes:
        steps: the distinct steps, increasing, shape (steps,).
        width: number of columns.
        places: the rows that count, and their places in the flattened array; None if row `i` has
            place `i`.
    """

    steps: NDArray[np.int64]
    width: int
    places: tuple[NDArray[np.intp], NDArray[np.int64]] | None = None

    @property
    def present(self) -> NDArray[np.bool_] | None:
        """Which places have a row, shape (steps, width); None if all have."""
        shape = (len(self.steps), self.width)
        if self.places is None or len(self.places[1]) == shape[0] * shape[1]:
            return None
        found = np.zeros(shape, dtype=bool)
        found.reshape(-1)[self.places[1]] = True
        return found

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn one value a row, shape (rows,), into (steps, width), with NaN where none is."""
        shape = (len(self.steps), self.width)
        if self.places is None:
            return values.reshape(shape)
        rows, cells = self.places
        dense = np.full(shape, np.nan)
        dense.reshape(-1)[cells] = values[rows]
        return dense


def arrange(
    step: NDArray[np.int64], column: Ints, width: int, steps: NDArray[np.int64] | None = None
) -> Layout:
    """The layout of rows with these steps and columns; the last row of equal pairs counts.

    `steps`, if given, are increasing and hold each of `step`; the array has a line for each.

    >>> layout = arrange(np.array([7, 7, 8, 7]), np.array([0, 1, 0, 1]), width=2)
    >>> layout.spread(np.array([1.0, 2.0, 3.0, 4.0]))
    array([[ 1.,  4.],
           [ 3., nan]])
    """
    if len(step) % width == 0:
        # Most runs have whole steps in order, and their rows need no sorting or copying.
        step_blocks, column_blocks = step.reshape(-1, width), column.reshape(-1, width)
        found = step_blocks[:, 0]
        if (
            (steps is None or len(found) == len(steps))
            and (np.diff(found) > 0).all()
            and (step_blocks == found[:, None]).all()
            and (column_blocks == np.arange(width)).all()
        ):
            return Layout(found.copy(), width)
    steps = np.unique(step) if steps is None else steps
    which = np.searchsorted(steps, step)
    cells = which.reshape(step.shape) * width + column
    rows = latest(cells)
    return Layout(steps, width, (rows, cells[rows]))


def latest(keys: Ints) -> NDArray[np.intp]:
    """Indices of the last occurrence of each distinct key, in the order of the keys.

    >>> latest(np.array([5, 3, 5]))
    array([1, 2])
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return order[last]
