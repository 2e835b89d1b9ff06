"""Measuring on the CPU: tiles of all slices, summed by compiled loops on threads of its own."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import StridedLayout, check_measurable, place_all
from spherical_motion.measure.loops import compile_loops, fold_tiles, sum_loop
from spherical_motion.measure.preconditioner_table import Preconditioners, PreconditionerTable
from spherical_motion.measure.pulls import PullSums
from spherical_motion.measure.team import Team
from spherical_motion.measure.tiles import TileTable, cut_shares
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

WITH_GRADIENT = slice(FIELDS.index("wg"), None)

# Given the weights after and before the step and the gradient: ww, wd, dd, wg, gg, dg.
sum_gram = sum_loop(3, difference=True)


class CpuGram:
    """Measures the inner products of many slices at once, again and again.

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
        products: how many of `vocabulary.gram.PRODUCTS` to measure: the six, 7 (with wp) or
            8 (with ws).

    Raises:
        InvalidArgument: a slice outside its tensor, a dtype or device that cannot be measured,
            fewer than one thread, other products.

    >>> before = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> after = torch.tensor([[3.0, 5.0], [1.0, 2.0]])
    >>> out = np.empty((2, 6))
    >>> with CpuGram([before], slices=[(0, 0, 0, 1), (0, 0, 1, 2)]) as measure:
    ...     measure([after], [before], [None], out)
    >>> out
    array([[25.,  4.,  1., nan, nan, nan],
           [ 1.,  0.,  4., nan, nan, nan]])

    With the state of an optimizer that divides by √v, here 2 and 1, the seventh product <w, Px>:

    >>> from spherical_motion.measure import Preconditioner
    >>> grad = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    >>> by_root = Preconditioner(state=torch.tensor([[4.0, 4.0], [1.0, 1.0]]), root=1.0)
    >>> out = np.empty((2, 7))
    >>> with CpuGram([before], slices=[(0, 0, 0, 1), (0, 0, 1, 2)], products=7) as measure:
    ...     measure([after], [before], [grad], out, [by_root])
    >>> out[:, 6]
    array([3.5, 1. ])
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor],
        slices: ArrayLike,
        threads: int | None = None,
        products: int = len(FIELDS),
    ) -> None:
        remedy = "Leave it out to use as many as torch does."
        given = torch.get_num_threads() if threads is None else threads
        self.threads = whole("CpuGram", "threads", given, least=1, remedy=remedy)
        least, most = len(FIELDS), len(PRODUCTS)
        self.products = whole("CpuGram", "products", products, least=least, most=most)
        for i, tensor in enumerate(tensors):
            check_measurable(f"CpuGram(tensors=...): tensor {i}", tensor)
        self._layouts = [StridedLayout.of(tensor) for tensor in tensors]
        self._table = TileTable.cut(self._layouts, slices)
        self._shares = cut_shares(self._table.entries)
        sizes = np.array([tensor.element_size() for tensor in tensors], dtype=np.int64)
        self._addresses = np.zeros((3, len(tensors)), dtype=np.int64)
        self._sums = np.zeros((len(self._table.tiles), least))
        self._team = Team("spherical-motion-gram")
        compile_loops(sum_gram)
        own = (np.ones(len(tensors)), self._table.tiles, self._table.rows, self._sums)
        self._sum_tiles = functools.partial(sum_gram, self._addresses, sizes, *own)
        self._pulls = None
        if self.products > least:
            self._pulls = PullSums(self._layouts, sizes, self._table, self.products)

    def __call__(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor | None],
        out: NDArray[np.float64],
        preconditioners: Preconditioners | None = None,
        earlier: Preconditioners | None = None,
    ) -> None:
        """Measure one step.

        Args:
            after: the weights after the step, one for each tensor given at construction, of its
                dtype and shape. Tensors with other strides are re-laid, here and below.
            before: the weights before the step.
            grads: loss gradients at `before`; None makes its products NaN.
            out: (slices, products) or wider, float64 and C-contiguous; overwritten, in the order
                of `vocabulary.gram.PRODUCTS`.
            preconditioners: those of the step, with `products` from 7 on, as a sequence or a
                `PreconditionerTable`. Where there is none, wp and ws are NaN, and the six cost
                what they do without.
            earlier: those of the step before, with copies of their `state` and `average` from
                before this step, with `products` 8. Where there is none, ws is NaN.

        Raises:
            InvalidArgument: something has another length, shape, dtype or device.
        """
        own = tuple(x for x in (preconditioners, earlier) if x is not None)
        self._check(out, after, before, grads, *own)
        # For a missing gradient the weights are read; NaN replaces their products below.
        stand_ins = [a if g is None else g for a, g in zip(after, grads, strict=True)]
        given = (("after", after), ("before", before), ("grads", stand_ins))
        placed = [place_all(self._layouts, f"CpuGram: {name}", xs) for name, xs in given]
        with self._team.lock:
            for row, tensors in enumerate(placed):
                self._addresses[row] = [tensor.data_ptr() for tensor in tensors]
            sums, work, kept = self._sums, self._sum_tiles, []
            if self._pulls and preconditioners is not None and not _is_empty(preconditioners):
                sums, work = self._pulls.sums, self._pulls
                kept = self._pulls.read(self._addresses, placed[1], preconditioners, earlier)
            shares = deque(self._shares)
            threads = min(self.threads, len(shares))
            self._team.run(lambda: _take(shares, work, (placed, kept)), threads)
            fold_tiles(sums, self._table.first, out)
        out[:, sums.shape[1] :] = np.nan
        missing = np.array([g is None for g in grads], dtype=bool)
        out[missing[self._table.tensor], WITH_GRADIENT] = np.nan

    def close(self) -> None:
        """End the threads. May be repeated; a later call starts them again."""
        self._team.close()

    def __enter__(self) -> CpuGram:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, out: NDArray[np.float64], *lists: Sequence[object]) -> None:
        names = ("after", "before", "grads", "preconditioners", "earlier")
        for name, given in zip(names, lists, strict=False):
            if len(given) != len(self._layouts):
                raise InvalidArgument(
                    f"CpuGram: {name} must hold one entry for each of the {len(self._layouts)} "
                    f"tensors given at construction, got {len(given)}."
                )
        shape = (len(self._table.tensor), self.products)
        fits = out.ndim == 2 and len(out) == shape[0] and shape[1] <= out.shape[1] <= len(PRODUCTS)
        if not fits or out.dtype != np.float64 or not out.flags.carray:
            raise InvalidArgument(
                f"CpuGram: out must be a writable C-contiguous float64 array of shape {shape}, "
                f"got {out.dtype} of shape {out.shape}. Make it with numpy.empty({shape})."
            )


def _is_empty(given: Preconditioners) -> bool:
    """Whether no tensor has a preconditioner."""
    if isinstance(given, PreconditionerTable):
        return given.is_empty
    return not any(given)


def _take(shares: deque[tuple[int, int]], work: Callable[[int, int], None], placed: object) -> None:
    """Do the work on shares until none is left.

    Holding `placed` keeps the tensors alive, even if the calling thread was interrupted.
    """
    while True:
        try:
            start, stop = shares.popleft()
        except IndexError:
            return
        work(start, stop)
