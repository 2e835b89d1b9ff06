"""Long tuples of slices as short JSON: a run of equally wide neighbours is one entry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import Cell

__all__ = ["pack_cells", "unpack_cells"]


def pack_cells(cells: Iterable[Cell]) -> list[list[Any]]:
    """Cells as runs `[count, [[parameter, axis, start, width], ...]]`.

    Member number `i` of a run is its first cell with each slice moved on by `i` times its own
    width, so the filters of a layer are one entry, and so are filters joined by their biases.

    >>> filters = [(Slice("conv.weight", 0, i, i + 1), Slice("conv.bias", 0, i, i + 1))
    ...            for i in range(512)]
    >>> pack_cells(filters)
    [[512, [['conv.weight', 0, 0, 1], ['conv.bias', 0, 0, 1]]]]
    """
    runs: list[list[Any]] = []
    expected: Cell | None = None
    for cell in cells:
        if cell == expected:
            runs[-1][0] += 1
        else:
            runs.append([1, [[s.parameter, s.axis, s.start, s.length] for s in cell]])
        expected = tuple(Slice(s.parameter, s.axis, s.stop, s.stop + s.length) for s in cell)
    return runs


def unpack_cells(runs: Iterable[list[Any]]) -> tuple[Cell, ...]:
    """The exact inverse of `pack_cells`.

    >>> unpack_cells([[2, [["conv.weight", 0, 4, 2]]]])[1][0].start
    6
    """
    return tuple(
        tuple(
            Slice(parameter, axis, start + i * width, start + (i + 1) * width)
            for parameter, axis, start, width in members
        )
        for count, members in runs
        for i in range(count)
    )
