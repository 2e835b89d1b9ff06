"""Rows in the order of one column, so that a reader of a few of its values skips the others.

Rows with equal values keep the order in which they came, within a part and across parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROW_GROUP = 1 << 18
"""Rows of a row group, about; all rows of one value lie in one."""

Joined = Callable[[list[pa.Table]], pa.Table]
"""Puts tables one below the other, also if one lacks a column of another."""


def sorted_by(table: pa.Table, key: str) -> pa.Table:
    """The table in the order of a column of numbers.

    >>> sorted_by(pa.table({"slice": [1, 0, 1], "step": [7, 7, 8]}), "slice")["step"].to_pylist()
    [7, 7, 8]
    """
    values = table[key].to_numpy()
    if not is_sorted(values):
        table = table.take(pa.array(np.argsort(values, kind="stable")))
    return table


def row_groups(table: pa.Table, key: str) -> Iterator[pa.Table]:
    """A sorted table in pieces for one row group each, which share no value of the key."""
    values = table[key].to_numpy()
    first = 0
    while first < len(values):
        last = min(first + ROW_GROUP, len(values)) - 1
        stop = int(np.searchsorted(values, values[last], side="left"))
        if stop <= first or last == len(values) - 1:
            stop = int(np.searchsorted(values, values[last], side="right"))
        yield table.slice(first, stop - first)
        first = stop


def merged_by(
    key: str, sources: Sequence[Iterable[pa.Table]], joined: Joined
) -> Iterator[pa.Table]:
    """Sorted tables in pieces as one, in pieces for a row group each or larger.

    Of each source one piece is in memory, or as many as hold the rows of one value.

    Args:
        key: the column by which each source is sorted.
        sources: the pieces of each table.
        joined: puts pieces of several sources one below the other.
    """
    cursors = [_Cursor(iter(source), key) for source in sources]
    held: list[pa.Table] = []
    while any(not cursor.ended for cursor in cursors):
        # Below the smallest last value that is in memory, no source has further rows.
        bound = min((c.last for c in cursors if not c.exhausted), default=None)
        found = [piece for c in cursors if (piece := c.take_below(bound)) is not None]
        if found:
            held.append(sorted_by(joined(found), key))
        if sum(piece.num_rows for piece in held) >= ROW_GROUP:
            yield joined(held)
            held = []
        for cursor in cursors:
            if not cursor.exhausted and (bound is None or cursor.last <= bound):
                cursor.read_on()
    if held:
        yield joined(held)


class _Cursor:
    """What is in memory of a sorted source; some of it at first."""

    def __init__(self, source: Iterator[pa.Table], key: str) -> None:
        self._source, self._key = source, key
        self._pieces: list[pa.Table] = []
        self.exhausted = False
        self.last = -1
        self.read_on()

    @property
    def ended(self) -> bool:
        return self.exhausted and not self._pieces

    def read_on(self) -> None:
        """Read a piece more."""
        piece = next((p for p in self._source if p.num_rows), None)
        if piece is None:
            self.exhausted = True
        else:
            self._pieces.append(piece)
            self.last = int(piece[self._key][-1].as_py())

    def take_below(self, bound: int | None) -> pa.Table | None:
        """Take out the rows whose key is below a bound, or all; None if there is none."""
        if not self._pieces:
            return None
        whole = pa.concat_tables(self._pieces)
        stop = whole.num_rows
        if bound is not None:
            stop = int(np.searchsorted(whole[self._key].to_numpy(), bound, side="left"))
        rest = whole.slice(stop)
        self._pieces = [rest] if rest.num_rows else []
        return whole.slice(0, stop) if stop else None


def is_sorted(values: NDArray[np.integer]) -> bool:
    """Whether no value is smaller than the one before."""
    return bool((values[1:] >= values[:-1]).all())
