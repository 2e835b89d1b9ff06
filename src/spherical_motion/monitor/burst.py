"""The updates of one group over a burst of steps, and how they are correlated in time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Rates = tuple[float, float]
"""Learning rate and weight decay of a piece at one step."""


@dataclasses.dataclass(frozen=True, slots=True)
class UpdatePiece:
    """A slice of a parameter, and the number of the param group that steps it."""

    parameter: torch.Tensor
    axis: int
    start: int
    stop: int
    param_group: int

    @property
    def entries(self) -> torch.Tensor:
        """The slice itself, a view of the parameter as it is now."""
        whole = torch.atleast_1d(self.parameter.detach())
        return whole.narrow(self.axis, self.start, self.stop - self.start)

    @property
    def numel(self) -> int:
        """Number of entries."""
        return self.entries.numel()


def largest(pieces: Sequence[UpdatePiece]) -> int:
    """Index of the piece with the most entries, whose settings stand for the group's."""
    return max(range(len(pieces)), key=lambda i: pieces[i].numel)


class Memory:
    """One block of memory for every burst of an optimizer, allocated and written at once.

    Holding n entries over L lags takes 4(L + 1) + 24 bytes an entry: L + 1 updates in float32,
    the weights before and after a step in float64, and the entry's number.

    >>> memory = Memory(Memory.needed(entries=100, lags=30))
    >>> memory.room(lags=30), memory.room(lags=60)
    (100, 55)
    """

    def __init__(self, nbytes: int) -> None:
        self._block = torch.zeros(-(-nbytes // 8), dtype=torch.float64)

    @staticmethod
    def needed(entries: int, lags: int) -> int:
        """Bytes for a burst of so many entries and lags."""
        return entries * (4 * (lags + 1) + 24)

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self._block.nbytes

    def room(self, lags: int) -> int:
        """Entries for which there is room, at least 1."""
        return max(self._block.nbytes // self.needed(1, lags), 1)

    def parts(self, entries: int, lags: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(before, after, updates): two vectors in float64, and (lags + 1, entries) in float32."""
        before, after, rest = (
            self._block[:entries],
            self._block[entries : 2 * entries],
            self._block[2 * entries :].view(torch.float32),
        )
        return before, after, rest[: (lags + 1) * entries].view(lags + 1, entries)


@dataclasses.dataclass(frozen=True, slots=True)
class Correlation:
    """What a burst has found.

    Attributes:
        rho: ρ_0 = 1, ρ_1, ..., mean <u_t, u_{t-k}> over mean |u|², shape (lags + 1,).
        update_sq: mean |u|².
        moved: whether any step changed the weights.
    """

    rho: NDArray[np.float64]
    update_sq: float
    moved: bool

    @property
    def finite(self) -> bool:
        """Whether all of it is finite."""
        return bool(np.isfinite(self.update_sq) and np.isfinite(self.rho).all())


class Burst:
    """Consecutive updates u = ((1 - ηλ)w - w_after)/η of one group.

    Each piece decays at its own ηλ; the η below is the largest piece's for all of them, so that
    the updates of pieces with different rates are weighted by how far they move the weights.
    A group larger than the memory is represented by entries drawn with replacement, for which
    mean <u_t, u_{t-k}> is unbiased; its error falls as one over the root of their number.

    Args:
        pieces: the group's slices.
        lags: the largest lag.
        steps: length of the burst, more than `lags`.
        memory: where the updates are kept.
        seed: of the entries that are drawn.
    """

    def __init__(
        self, pieces: Sequence[UpdatePiece], lags: int, steps: int, memory: Memory, seed: int
    ) -> None:
        self.lags, self.steps, self.done = lags, steps, 0
        self._pieces = tuple(pieces)
        sizes = [piece.numel for piece in pieces]
        self.main = largest(pieces)
        self.numel = sum(sizes)
        self.entries = min(self.numel, memory.room(lags))
        self._before, self._after, self._kept = memory.parts(self.entries, lags)
        self._drawn = None
        if self.entries < self.numel:
            self._drawn, sizes = _draw(sizes, self.entries, seed)
        bounds = [0, *itertools.accumulate(sizes)]
        self._places = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        self._sums = torch.zeros(lags + 1, dtype=torch.float64)
        self._moved = torch.zeros((), dtype=torch.float64)

    def take(self) -> None:
        """Copy the weights before a step."""
        self._copy_to(self._before)

    def measure(self, rates: Sequence[Rates]) -> None:
        """Take the step that has just been made, at these rates of the pieces."""
        self._copy_to(self._after)
        self._after.sub_(self._before).neg_()  # -d
        self._moved += torch.dot(self._after, self._after)
        for place, (lr, weight_decay) in zip(self._places, rates, strict=True):
            self._after[place].sub_(self._before[place], alpha=lr * weight_decay)
        self._after.div_(rates[self.main][0])
        ring = self.lags + 1
        row, known = self.done % ring, min(self.done + 1, ring)
        self._kept[row] = self._after
        products = torch.mv(self._kept[:known], self._kept[row])
        self._sums.index_add_(0, (row - torch.arange(known)) % ring, products.double())
        self.done += 1

    @property
    def ended(self) -> bool:
        """Whether all its steps were taken."""
        return self.done >= self.steps

    def result(self) -> Correlation:
        """The correlation over the steps taken so far, which must be more than `lags`."""
        pairs = self.done - np.arange(self.lags + 1)
        means = self._sums.numpy() / pairs
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = means / means[0]
        scale = self.numel / self.entries
        return Correlation(rho, float(means[0]) * scale, bool(self._moved != 0))

    def _copy_to(self, vector: torch.Tensor) -> None:
        for i, (piece, place) in enumerate(zip(self._pieces, self._places, strict=True)):
            entries = piece.entries
            if self._drawn is None:
                vector[place].view(entries.shape).copy_(entries)
            else:
                vector[place].copy_(torch.take(entries, self._drawn[i]))


def _draw(sizes: Sequence[int], count: int, seed: int) -> tuple[list[torch.Tensor], list[int]]:
    """`count` entries out of all pieces with replacement: their indices in each, and how many."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(sum(sizes), (count,), generator=generator).sort().values
    bounds = torch.tensor([0, *itertools.accumulate(sizes)])
    found = torch.bucketize(bounds, drawn)
    parts = [
        drawn[found[i] : found[i + 1]] - bounds[i]  # the copies fill the 8 bytes that were counted
        for i in range(len(sizes))
    ]
    return parts, [len(part) for part in parts]
