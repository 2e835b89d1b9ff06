"""Measure the finest certified invariants of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.measure.cpu import CpuGram
from spherical_motion.vocabulary.gram import FIELDS
from spherical_motion.vocabulary.groups import InvariantGroup


class CellMeter:
    """The six products of every cell of some groups, by one kernel over all their slices.

    Args:
        parameters: the tensors that hold the slices.
        place: index into `parameters` by name.
        groups: the groups by their number in the run.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        place: Mapping[str, int],
        groups: Mapping[int, InvariantGroup],
    ) -> None:
        cells = [cell for group in groups.values() for cell in group.cells]
        slices = [(place[s.parameter], s.axis, s.start, s.stop) for cell in cells for s in cell]
        self._kernel = CpuGram(parameters, slices)
        self._out = np.empty((len(slices), len(FIELDS)))
        self._first = np.cumsum([0, *(len(cell) for cell in cells)])[:-1]
        ends = np.cumsum([0, *(len(group.cells) for group in groups.values())])
        self._spans = {
            number: slice(ends[i], ends[i + 1])
            for i, (number, group) in enumerate(groups.items())
            if group.cells
        }

    def __call__(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor | None],
    ) -> dict[int, NDArray[np.float64]]:
        """Products (cells, 6) of each group, by its number."""
        if not self._spans:
            return {}
        self._kernel(after, before, grads, self._out)
        summed = np.add.reduceat(self._out, self._first, axis=0)
        return {number: summed[span] for number, span in self._spans.items()}

    def close(self) -> None:
        """End the kernel's threads."""
        self._kernel.close()
