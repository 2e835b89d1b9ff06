"""Cells of groups as rows of a backend, and their sums by group."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spherical_motion.vocabulary.groups import InvariantGroup


class CellRows:
    """The slices of every cell of some groups, one after the other.

    Args:
        place: the number of each tensor, by the name of its parameter.
        groups: the groups by their number in the run.

    Attributes:
        slices: rows of (tensor, axis, start, stop).
    """

    def __init__(self, place: Mapping[str, int], groups: Mapping[int, InvariantGroup]) -> None:
        cells = [cell for group in groups.values() for cell in group.cells]
        self.slices = [
            (place[s.parameter], s.axis, s.start, s.stop) for cell in cells for s in cell
        ]
        self._first = np.cumsum([0, *(len(cell) for cell in cells)])[:-1]
        ends = np.cumsum([0, *(len(group.cells) for group in groups.values())])
        self._spans = {
            number: slice(ends[i], ends[i + 1])
            for i, (number, group) in enumerate(groups.items())
            if group.cells
        }

    def summed(self, products: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
        """Products (cells, 6) of each group, by its number, from those of the slices."""
        if not self._spans:
            return {}
        summed = np.add.reduceat(products, self._first, axis=0)
        return {number: summed[span] for number, span in self._spans.items()}
