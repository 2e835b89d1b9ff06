"""The two products of an optimizer's preconditioner: what a kernel needs beside the six."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import StridedLayout, place_all
from spherical_motion.measure.metric_loops import (
    WS,
    compile_changes,
    compile_preconditioned,
    sum_changes,
    sum_preconditioned,
)
from spherical_motion.measure.preconditioner_table import (
    Preconditioners,
    PreconditionerTable,
)
from spherical_motion.measure.tiles import TileTable


class PullSums:
    """Sums seven or eight products tile by tile.

    Args:
        layouts, sizes: of the tensors: how they lie in memory, bytes of an entry.
        table: the tiles.
        products: 7 or 8.
        rolls: as of `CpuGram`.

    Attributes:
        sums: (tiles, products), in the order in which the tiles are folded.
    """

    def __init__(
        self,
        layouts: Sequence[StridedLayout],
        sizes: NDArray[np.int64],
        table: TileTable,
        products: int,
        rolls: NDArray[np.bool_],
    ) -> None:
        self._rolls = {False: np.zeros(len(layouts)), True: rolls * 1.0}
        self._layouts, self._sizes, self._table = layouts, sizes, table
        self.sums = np.zeros((len(table.tiles), products))
        self._with_change = products > WS
        # Weights after and before the step, gradient, v.
        self._addresses = np.zeros((4, len(layouts)), dtype=np.int64)
        # Weights before the step, v, v before, average before.
        self._of_change = np.zeros((4, len(layouts)), dtype=np.int64)
        # What is given as a sequence is written into tables of its own.
        self._own, self._old = (PreconditionerTable(layouts) for _ in range(2))
        self._now = self._own
        self._accepted: PreconditionerTable = self._own
        compile_preconditioned()
        if self._with_change:
            compile_changes()

    def read(
        self,
        addresses: NDArray[np.int64],
        before: Sequence[torch.Tensor],
        preconditioners: Preconditioners,
        earlier: Preconditioners | None,
    ) -> list[object]:
        """Take down where the state of a step lies, and its coefficients.

        Args:
            addresses: (3, tensors), of the weights after and before the step and the gradients.
            before: the weights before the step; they stand in for a v that is not read.
            preconditioners, earlier: as for `CpuGram`.

        Returns:
            What must live until the tiles are summed.
        """
        now = self._now = self._as_table(preconditioners)
        self._addresses[:3] = addresses
        self._addresses[3] = now.addresses_or(addresses[1])
        if not self._with_change:
            return [now]
        old = [None] * len(before) if earlier is None else earlier
        used = [
            p if p is not None and now is not None and now.average is not None else None
            for p, now in zip(old, now, strict=True)
        ]
        filled = [
            w if p is None or p.average is None else p.average
            for p, w in zip(used, before, strict=True)
        ]
        old_averages = place_all(self._layouts, "CpuGram: earlier averages", filled)
        for i, p in enumerate(used):
            self._old.put(i, None if p is None or p.average is None else p, "CpuGram: earlier")
        self._of_change[0] = addresses[1]
        self._of_change[1] = self._addresses[3]
        self._of_change[2] = self._old.addresses_or(addresses[1])
        self._of_change[3] = [average.data_ptr() for average in old_averages]
        self.sums[:, WS] = np.nan
        return [now, *old_averages]

    def __call__(self, roll: bool, start: int, stop: int) -> None:
        """Sum tiles `start:stop`, and copy weights over those before the step if told to roll."""
        own = (self._table.tiles, self._table.rows, self.sums, start, stop)
        now = self._now.coefficients
        if self._with_change:  # before the weights that it reads are written over
            sum_changes(self._of_change, self._sizes, now, self._old.coefficients, *own)
        sum_preconditioned(self._addresses, self._sizes, now, self._rolls[roll], *own)

    def _as_table(self, given: Preconditioners) -> PreconditionerTable:
        """A table as it is, a sequence written into the table kept for it."""
        if not isinstance(given, PreconditionerTable):
            for i, p in enumerate(given):
                self._own.put(i, p, "CpuGram: preconditioners")
            return self._own
        if given is not self._accepted:
            if list(given.layouts) != list(self._layouts):
                raise InvalidArgument(
                    "CpuGram: the table of preconditioners was made for tensors of another type, "
                    "shape or layout. Make it for the tensors that are measured."
                )
            self._accepted = given
        return given
