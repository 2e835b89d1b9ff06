"""Measuring on the CPU: tiles of all slices, summed by compiled loops on threads of its own."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import StridedLayout, check_measurable
from spherical_motion.measure.loops import compile_loops, fold_tiles, sum_loop
from spherical_motion.measure.team import Team
from spherical_motion.measure.tiles import TileTable, cut_shares
from spherical_motion.vocabulary.gram import FIELDS

WITH_GRADIENT = slice(FIELDS.index("wg"), None)

# Given the weights after and before the step and the gradient: ww, wd, dd, wg, gg, dg.
sum_gram = sum_loop(3, difference=True)


class CpuGram:
    """Measures the six inner products of many slices at once, again and again.

    Construction prepares tiles, buffers and compiled code. A call looks up where the tensors lie,
    so weights and gradients may move between calls; it allocates only where a tensor must be
    re-laid. The number of threads does not change a bit of a result.

    May be called from several threads, and in a forked child: the first call that needs threads
    starts them, also after a fork or after `close`.

    Args:
        tensors: the weights, float32 or float64, as they lie in memory. Contiguous, channels_last
            and permuted tensors are read in place, others through a copy made at every call.
        slices: rows of (tensor index, axis, start, stop), shape (slices, 4).
        threads: how many to use, the calling one included; None for `torch.get_num_threads()`.

    Raises:
        InvalidArgument: a slice outside its tensor, a dtype or device that cannot be measured,
            fewer than one thread.

    >>> before = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> after = torch.tensor([[3.0, 5.0], [1.0, 2.0]])
    >>> out = np.empty((2, 6))
    >>> with CpuGram([before], slices=[(0, 0, 0, 1), (0, 0, 1, 2)]) as measure:
    ...     measure([after], [before], [None], out)
    >>> out
    array([[25.,  4.,  1., nan, nan, nan],
           [ 1.,  0.,  4., nan, nan, nan]])
    """

    def __init__(
        self, tensors: Sequence[torch.Tensor], slices: ArrayLike, threads: int | None = None
    ) -> None:
        remedy = "Leave it out to use as many as torch does."
        given = torch.get_num_threads() if threads is None else threads
        self.threads = whole("CpuGram", "threads", given, least=1, remedy=remedy)
        for i, tensor in enumerate(tensors):
            check_measurable(f"CpuGram(tensors=...): tensor {i}", tensor)
        self._layouts = [StridedLayout.of(tensor) for tensor in tensors]
        self._table = TileTable.cut(self._layouts, slices)
        self._shares = cut_shares(self._table.entries)
        self._addresses = np.zeros((3, len(tensors)), dtype=np.int64)
        sizes = np.array([tensor.element_size() for tensor in tensors], dtype=np.int64)
        self._sums = np.zeros((len(self._table.tiles), len(FIELDS)))
        self._team = Team("spherical-motion-gram")
        compile_loops(sum_gram)
        own = (np.ones(len(tensors)), self._table.tiles, self._table.rows, self._sums)
        self._sum_tiles = functools.partial(sum_gram, self._addresses, sizes, *own)

    def __call__(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor | None],
        out: NDArray[np.float64],
    ) -> None:
        """Measure one step.

        Args:
            after: the weights after the step, one for each tensor given at construction, of its
                dtype and shape. Tensors with other strides are re-laid, here and below.
            before: the weights before the step.
            grads: loss gradients at `before`; None makes its products NaN.
            out: (slices, 6), float64 and C-contiguous; overwritten, in the order of
                `vocabulary.gram.FIELDS`.

        Raises:
            InvalidArgument: something has another length, shape, dtype or device.
        """
        self._check(out, after=len(after), before=len(before), grads=len(grads))
        # For a missing gradient the weights are read; NaN replaces their products below.
        stand_ins = [a if g is None else g for a, g in zip(after, grads, strict=True)]
        given = (("after", after), ("before", before), ("grads", stand_ins))
        placed = [self._place(name, tensors) for name, tensors in given]
        with self._team.lock:
            for row, tensors in enumerate(placed):
                self._addresses[row] = [tensor.data_ptr() for tensor in tensors]
            shares = deque(self._shares)
            threads = min(self.threads, len(shares))
            self._team.run(lambda: self._sum(shares, placed), threads)
            fold_tiles(self._sums, self._table.first, out)
        missing = np.array([g is None for g in grads], dtype=bool)
        out[missing[self._table.tensor], WITH_GRADIENT] = np.nan

    def close(self) -> None:
        """End the threads. May be repeated; a later call starts them again."""
        self._team.close()

    def __enter__(self) -> CpuGram:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, out: NDArray[np.float64], **lengths: int) -> None:
        for name, length in lengths.items():
            if length != len(self._layouts):
                raise InvalidArgument(
                    f"CpuGram: {name} must hold one entry for each of the {len(self._layouts)} "
                    f"tensors given at construction, got {length}."
                )
        shape = (len(self._table.tensor), len(FIELDS))
        if out.shape != shape or out.dtype != np.float64 or not out.flags.carray:
            raise InvalidArgument(
                f"CpuGram: out must be a writable C-contiguous float64 array of shape {shape}, "
                f"got {out.dtype} of shape {out.shape}. Make it with numpy.empty({shape})."
            )

    def _place(self, name: str, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [
            layout.place(f"CpuGram: {name}[{i}]", tensor)
            for i, (layout, tensor) in enumerate(zip(self._layouts, tensors, strict=True))
        ]

    def _sum(self, shares: deque[tuple[int, int]], placed: object) -> None:
        """Sum shares until none is left.

        Holding `placed` keeps the tensors alive, even if the calling thread was interrupted.
        """
        while True:
            try:
                start, stop = shares.popleft()
            except IndexError:
                return
            self._sum_tiles(start, stop)
