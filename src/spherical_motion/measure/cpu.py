"""Measuring on the CPU: tiles of all slices, summed by compiled loops on threads of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import StridedLayout, check_measurable
from spherical_motion.measure.loops import compile_loops, fold_tiles, sum_loop
from spherical_motion.measure.metric_loops import (
    WS,
    compile_changes,
    compile_preconditioned,
    sum_changes,
    sum_preconditioned,
)
from spherical_motion.measure.preconditioner import Preconditioner
from spherical_motion.measure.team import Team
from spherical_motion.measure.tiles import TileTable, cut_shares
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

Preconditioners: TypeAlias = Sequence[Preconditioner | None]
"""One for each tensor; None where there is none."""

NONE = (np.nan,) * 5
"""The coefficients where there is no preconditioner."""

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
        self._sizes = np.array([tensor.element_size() for tensor in tensors], dtype=np.int64)
        self._ones = np.ones(len(tensors))
        # Addresses: weights after and before, gradient, v; and for ws: before, v, v before, average.
        self._addresses = np.zeros((4, len(tensors)), dtype=np.int64)
        self._before_step = np.zeros((4, len(tensors)), dtype=np.int64)
        self._now, self._old = (np.full((len(tensors), 5), np.nan) for _ in range(2))
        self._sums = np.zeros((len(self._table.tiles), least))
        self._more_sums = np.zeros((len(self._table.tiles), products if products > least else 0))
        self._team = Team("spherical-motion-gram")
        compile_loops(sum_gram)
        if products > least:
            compile_preconditioned()
        if products == most:
            compile_changes()

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
            preconditioners: those of the step, with `products` from 7 on. Where there is none, wp
                and ws are NaN, and the six cost what they do without.
            earlier: those of the step before, with copies of their `state` and `average` from
                before this step, with `products` 8. Where there is none, ws is NaN.

        Raises:
            InvalidArgument: something has another length, shape, dtype or device.
        """
        own = tuple(x for x in (preconditioners, earlier) if x is not None)
        self._check(out, after, before, grads, *own)
        measured = len(FIELDS)
        # For a missing gradient the weights are read; NaN replaces their products below.
        stand_ins = [a if g is None else g for a, g in zip(after, grads, strict=True)]
        given = (("after", after), ("before", before), ("grads", stand_ins))
        placed = [self._place(name, tensors) for name, tensors in given]
        with self._team.lock:
            for row, tensors in enumerate(placed):
                self._addresses[row] = [tensor.data_ptr() for tensor in tensors]
            sums, work = self._sums, self._sum_six
            if self.products > measured and preconditioners and any(preconditioners):
                sums, work = self._more_sums, self._sum_more
                placed.append(self._read_state(preconditioners, earlier, placed[1]))
            measured = sums.shape[1]
            shares = deque(self._shares)
            threads = min(self.threads, len(shares))
            self._team.run(lambda: _take(shares, work, placed), threads)
            fold_tiles(sums, self._table.first, out)
        out[:, measured:] = np.nan
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

    def _place(self, name: str, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [
            layout.place(f"CpuGram: {name}[{i}]", tensor)
            for i, (layout, tensor) in enumerate(zip(self._layouts, tensors, strict=True))
        ]

    def _read_state(
        self,
        preconditioners: Preconditioners,
        earlier: Preconditioners | None,
        before: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Write down coefficients and addresses of the state; returns the tensors they are of.

        Where v does not exist or is not read, the weights stand in for it.
        """
        states = self._states("preconditioners", preconditioners, before, self._now)
        self._addresses[3] = [tensor.data_ptr() for tensor in states]
        if self.products <= WS:
            return states
        self._more_sums[:, WS] = np.nan
        if earlier is None:
            self._old[:] = np.nan
            return states
        averages = [
            None if p is None or now is None or now.average is None else p.average
            for p, now in zip(earlier, preconditioners, strict=True)
        ]
        used = [None if a is None else p for p, a in zip(earlier, averages, strict=True)]
        old_states = self._states("earlier", used, before, self._old)
        filled = [b if a is None else a for a, b in zip(averages, before, strict=True)]
        old_averages = self._place("earlier averages", filled)
        for row, tensors in enumerate((before, states, old_states, old_averages)):
            self._before_step[row] = [tensor.data_ptr() for tensor in tensors]
        return [*states, *old_states, *old_averages]

    def _states(
        self,
        name: str,
        given: Preconditioners,
        stand_ins: Sequence[torch.Tensor],
        coefficients: NDArray[np.float64],
    ) -> list[torch.Tensor]:
        coefficients[:] = [NONE if p is None else p.coefficients for p in given]
        return self._place(
            name,
            [
                w if p is None or p.state is None else p.state
                for p, w in zip(given, stand_ins, strict=True)
            ],
        )

    def _sum_six(self, start: int, stop: int) -> None:
        own = (self._sizes, self._ones, self._table.tiles, self._table.rows, self._sums)
        sum_gram(self._addresses, *own, start, stop)

    def _sum_more(self, start: int, stop: int) -> None:
        own = (self._table.tiles, self._table.rows, self._more_sums, start, stop)
        sum_preconditioned(self._addresses, self._sizes, self._now, *own)
        if self.products > WS:
            sum_changes(self._before_step, self._sizes, self._now, self._old, *own)


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
