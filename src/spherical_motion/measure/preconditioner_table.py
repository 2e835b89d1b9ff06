"""The preconditioners of many tensors as arrays, which a kernel reads without a loop in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.measure.layout import StridedLayout
from spherical_motion.measure.preconditioner import Preconditioner

NONE = (np.nan,) * 5
"""The coefficients where there is no preconditioner."""


class PreconditionerTable(Sequence[Preconditioner | None]):
    """One preconditioner or None for each of some tensors, to be filled again at each step.

    It holds where the states lie, and their coefficients. States may move: fill the table straight
    before measuring. As a sequence it gives `Preconditioner`s.

    Args:
        layouts: of the weights. States in another layout are re-laid.

    Attributes:
        coefficients: (tensors, 5), those of a `Preconditioner`; NaN where there is none.
        addresses: (tensors,), where each v begins in memory; 0 where there is none.

    >>> weights = [torch.ones(3), torch.ones(2, 2)]
    >>> table = PreconditionerTable([StridedLayout.of(w) for w in weights])
    >>> table.put(0, Preconditioner(torch.full((3,), 4.0), root=1.0))
    >>> table[0].values()
    tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)
    >>> print(table[1])
    None
    """

    def __init__(self, layouts: Sequence[StridedLayout]) -> None:
        self.layouts = tuple(layouts)
        self.coefficients = np.full((len(self.layouts), 5), np.nan)
        self.addresses = np.zeros(len(self.layouts), dtype=np.int64)
        self._all = list(range(len(self.layouts)))
        # They must live until the tiles are summed.
        self._states: list[torch.Tensor | None] = [None] * len(self.layouts)
        self._averages: list[torch.Tensor | None] = [None] * len(self.layouts)

    def __len__(self) -> int:
        return len(self.layouts)

    def __getitem__(self, i: int) -> Preconditioner | None:  # pyright: ignore
        scale, root, linear, eps, decay = self.coefficients[i].tolist()
        if np.isnan(scale):
            return None
        state = self._states[i] if root or linear else None
        return Preconditioner(state, scale, root, linear, eps, decay, self._averages[i])

    @property
    def is_empty(self) -> bool:
        """Whether no tensor has one."""
        return bool(np.isnan(self.coefficients[:, 0]).all())

    def addresses_or(self, stand_ins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each v begins, and the stand-in's address for a v that is not read."""
        reads = (self.coefficients[:, 1:3] != 0.0).any(axis=1) & (self.addresses != 0)
        return np.where(reads, self.addresses, stand_ins)

    def put(self, i: int, given: Preconditioner | None, name: str = "preconditioners") -> None:
        """Set the one of tensor `i`.

        Raises:
            InvalidArgument: v is of another dtype, shape or device than the weights; the message
                begins with `name`.
        """
        if given is None:
            self.drop(i)
            return
        state = given.state
        if state is not None:
            state = self.layouts[i].place(f"{name}[{i}]", state)
        self.coefficients[i] = given.coefficients
        self._lay(i, state, given.average)

    def fill(
        self,
        places: Sequence[int],
        coefficients: NDArray[np.float64],
        states: Sequence[torch.Tensor],
        averages: Sequence[torch.Tensor | None],
    ) -> None:
        """Set those of many tensors, whose states are known to lie like their weights.

        Args:
            places: which tensors.
            coefficients: (tensors, 5), or (5,) for all of them.
            states, averages: v and b of each.
        """
        addresses = list(map(torch.Tensor.data_ptr, states))
        if len(places) == len(self.layouts) and list(places) == self._all:
            self.coefficients[:], self.addresses[:] = coefficients, addresses
            self._states, self._averages = list(states), list(averages)
            return
        self.coefficients[places], self.addresses[places] = coefficients, addresses
        for i, state, average in zip(places, states, averages, strict=True):
            self._states[i], self._averages[i] = state, average

    def drop(self, i: int) -> None:
        """Tensor `i` has none."""
        self.coefficients[i] = NONE
        self._lay(i, None, None)

    def _lay(self, i: int, state: torch.Tensor | None, average: torch.Tensor | None) -> None:
        self._states[i], self._averages[i] = state, average
        self.addresses[i] = 0 if state is None else state.data_ptr()


Preconditioners: TypeAlias = Sequence[Preconditioner | None]
"""One for each tensor, None where there is none; a `PreconditionerTable` is read at once."""
