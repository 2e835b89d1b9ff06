"""Measuring on the CPU: tiles of all slices, summed by compiled loops on threads of its own."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.kernel import compile_kernels, fold_tiles, sum_tiles
from spherical_motion.measure.layout import Layout, check_measurable
from spherical_motion.measure.tiles import TileTable
from spherical_motion.vocabulary.gram import FIELDS

__all__ = ["CpuGram"]

SHARE = 262_144
"""Entries a thread takes at a time: some 0.1 ms of work. Threads take the next share when they are
done with one, because cores are rarely free alike: after each of torch's parallel operations, its
own threads keep spinning on theirs for milliseconds."""

THREAD_NAME = "spherical-motion-gram"

WITH_GRADIENT = slice(FIELDS.index("wg"), None)


class CpuGram:
    """Measures the six inner products of many slices at once, again and again.

    All that can be prepared is prepared here: tiles, buffers, compiled code. A call reads where
    the tensors lie at that moment, so weights and gradients may move between calls, and allocates
    only where a tensor must be re-laid. The number of threads does not change a bit of a result.

    May be called from several threads, and in a forked child: its threads are started by the
    first call that needs them, and again after a fork or after `close`.

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
        self.threads = torch.get_num_threads() if threads is None else threads
        if not isinstance(self.threads, int) or self.threads < 1:
            raise InvalidArgument(
                f"CpuGram(threads=...) must be an int >= 1, got {threads!r}. "
                "Leave it out to use as many as torch does."
            )
        for i, tensor in enumerate(tensors):
            check_measurable(f"CpuGram(tensors=...): tensor {i}", tensor)
        self._layouts = [Layout.of(tensor) for tensor in tensors]
        self._table = TileTable.cut(self._layouts, slices)
        bounds = self._table.bounds(parts=max(1, self._table.entries // SHARE)).tolist()
        self._shares = list(itertools.pairwise(bounds))
        self._helpers = min(self.threads, len(self._shares)) - 1

        self._addresses = np.zeros((3, len(tensors)), dtype=np.int64)
        self._sizes = np.array([tensor.element_size() for tensor in tensors], dtype=np.int64)
        self._sums = np.zeros((len(self._table.tiles), len(FIELDS)))
        compile_kernels()
        self._begin()

    def __call__(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor | None],
        out: NDArray[np.float64],
    ) -> None:
        """Measure one step.

        Args:
            after: the weights after the step, one for each tensor given at construction and of
                its dtype and shape. What has other strides is re-laid, here and below.
            before: the weights before the step.
            grads: loss gradients at `before`. Where None, the products with it become NaN.
            out: (slices, 6), float64 and C-contiguous; overwritten, in the order of
                `vocabulary.gram.FIELDS`.

        Raises:
            InvalidArgument: something has another length, shape, dtype or device.
        """
        self._check(after, before, grads, out)
        # For a missing gradient the weights are read; what comes of that is erased below.
        stand_ins = [a if g is None else g for a, g in zip(after, grads, strict=True)]
        placed = (
            self._place("after", after),
            self._place("before", before),
            self._place("grads", stand_ins),
        )
        self._begin_again_after_fork()
        with self._lock:
            for row, tensors in enumerate(placed):
                self._addresses[row] = [tensor.data_ptr() for tensor in tensors]
            self._sum_on_threads(placed)
            fold_tiles(self._sums, self._table.first, out)
        missing = np.array([g is None for g in grads], dtype=bool)
        out[missing[self._table.tensor], WITH_GRADIENT] = np.nan

    def close(self) -> None:
        """End the threads. May be repeated; a later call starts them again."""
        self._begin_again_after_fork()
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()

    def __enter__(self) -> CpuGram:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def _begin_again_after_fork(self) -> None:
        # The parent's threads do not exist here, and one of them may have held the lock.
        if self._process != os.getpid():
            self._begin()

    def _check(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor | None],
        out: NDArray[np.float64],
    ) -> None:
        for name, given in (("after", after), ("before", before), ("grads", grads)):
            if len(given) != len(self._layouts):
                raise InvalidArgument(
                    f"CpuGram: {name} must hold one entry for each of the {len(self._layouts)} "
                    f"tensors given at construction, got {len(given)}."
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

    def _sum_on_threads(self, placed: object) -> None:
        shares = deque(self._shares)
        helping = []
        if self._helpers:
            self._executor = self._executor or ThreadPoolExecutor(self._helpers, THREAD_NAME)
            helping = [
                self._executor.submit(self._sum, shares, placed) for _ in range(self._helpers)
            ]
        self._sum(shares, placed)
        for helper in helping:
            # One that has not begun by now has nothing left to do.
            if not helper.cancel():
                helper.result()

    def _sum(self, shares: deque[tuple[int, int]], placed: object) -> None:
        """Sum shares until none is left. `placed` is what they are read from: while a thread is
        in here it must not be freed, even if the calling thread was interrupted.
        """
        while True:
            try:
                start, stop = shares.popleft()
            except IndexError:
                return
            sum_tiles(self._addresses, self._sizes, self._table.tiles, start, stop, self._sums)
