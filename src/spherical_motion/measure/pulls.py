"""The two products of an optimizer's preconditioner: what a kernel needs beside the six."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.measure.layout import StridedLayout, place_all
from spherical_motion.measure.metric_loops import (
    WS,
    compile_changes,
    compile_preconditioned,
    sum_changes,
    sum_preconditioned,
)
from spherical_motion.measure.preconditioner import Preconditioner
from spherical_motion.measure.tiles import TileTable

Preconditioners: TypeAlias = Sequence[Preconditioner | None]
"""One for each tensor; None where there is none."""

NONE = (np.nan,) * 5
"""The coefficients where there is no preconditioner."""


class PullSums:
    """Sums seven or eight products tile by tile.

    Args:
        layouts, sizes: of the tensors: how they lie in memory, bytes of an entry.
        table: the tiles.
        products: 7 or 8.

    Attributes:
        sums: (tiles, products), in the order in which the tiles are folded.
    """

    def __init__(
        self,
        layouts: Sequence[StridedLayout],
        sizes: NDArray[np.int64],
        table: TileTable,
        products: int,
    ) -> None:
        self._layouts, self._sizes, self._table = layouts, sizes, table
        self.sums = np.zeros((len(table.tiles), products))
        self._with_change = products > WS
        # Weights after and before the step, gradient, v.
        self._addresses = np.zeros((4, len(layouts)), dtype=np.int64)
        # Weights before the step, v, v before, average before.
        self._of_change = np.zeros((4, len(layouts)), dtype=np.int64)
        self._now, self._old = (np.full((len(layouts), 5), np.nan) for _ in range(2))
        compile_preconditioned()
        if self._with_change:
            compile_changes()

    def read(
        self,
        addresses: NDArray[np.int64],
        before: Sequence[torch.Tensor],
        preconditioners: Preconditioners,
        earlier: Preconditioners | None,
    ) -> list[torch.Tensor]:
        """Take down where the state of a step lies, and its coefficients.

        Args:
            addresses: (3, tensors), of the weights after and before the step and the gradients.
            before: the weights before the step; they stand in for a v that is not read.
            preconditioners, earlier: as for `CpuGram`.

        Returns:
            The tensors that must live until the tiles are summed.
        """
        states = self._place("preconditioners", preconditioners, before, self._now)
        self._addresses[:3] = addresses
        self._addresses[3] = [tensor.data_ptr() for tensor in states]
        if not self._with_change:
            return states
        old = [None] * len(before) if earlier is None else earlier
        used = [
            p if p is not None and now is not None and now.average is not None else None
            for p, now in zip(old, preconditioners, strict=True)
        ]
        filled = [
            w if p is None or p.average is None else p.average
            for p, w in zip(used, before, strict=True)
        ]
        old_states = self._place("earlier", used, before, self._old)
        old_averages = place_all(self._layouts, "CpuGram: earlier averages", filled)
        self._old[[p is None or p.average is None for p in used]] = NONE
        for row, tensors in enumerate((before, states, old_states, old_averages)):
            self._of_change[row] = [tensor.data_ptr() for tensor in tensors]
        self.sums[:, WS] = np.nan
        return [*states, *old_states, *old_averages]

    def __call__(self, start: int, stop: int) -> None:
        """Sum tiles `start:stop`."""
        own = (self._table.tiles, self._table.rows, self.sums, start, stop)
        sum_preconditioned(self._addresses, self._sizes, self._now, *own)
        if self._with_change:
            sum_changes(self._of_change, self._sizes, self._now, self._old, *own)

    def _place(
        self,
        name: str,
        given: Preconditioners,
        stand_ins: Sequence[torch.Tensor],
        coefficients: NDArray[np.float64],
    ) -> list[torch.Tensor]:
        """Each v, laid out like its weights, which stand in for one that is not read."""
        coefficients[:] = [NONE if p is None else p.coefficients for p in given]
        states = [
            w if p is None or p.state is None else p.state
            for p, w in zip(given, stand_ins, strict=True)
        ]
        return place_all(self._layouts, f"CpuGram: {name}", states)
