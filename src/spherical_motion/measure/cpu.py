"""Measuring on the CPU: tiles of all slices, summed by compiled loops on threads of its own."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.compiled_cache import compile_cached
from spherical_motion.measure.layout import StridedLayout, check_measurable
from spherical_motion.measure.loops import OF_FOLD, OF_LOOP, fold_and_look, sum_loop
from spherical_motion.measure.places import Places
from spherical_motion.measure.preconditioner_table import Preconditioners, PreconditionerTable
from spherical_motion.measure.pulls import PullSums
from spherical_motion.measure.team import Team
from spherical_motion.measure.thread_choice import ThreadChoice
from spherical_motion.measure.tiles import TileTable, cut_shares, rolling
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

WITH_GRADIENT = slice(FIELDS.index("wg"), None)

NAMES = ("after", "before", "grads")

# Given the weights after and before the step and the gradient: ww, wd, dd, wg, gg, dg.
sum_gram = sum_loop(3, difference=True, rolls=True)


class CpuGram:
    """Measures the inner products of many slices at once, again and again.

    Construction prepares tiles, buffers and compiled code. A call looks up where the tensors lie,
    so weights and gradients may move between calls; it allocates only where a tensor must be
    re-laid. The number of threads does not change a bit of a result. Unless it is given, the first
    calls are timed with one thread and with more, see `ThreadChoice`.

    May be called from several threads, and in a forked child: the first call that needs threads
    starts them, also after a fork or after `close`.

    Args:
        tensors: the weights, float32 or float64, as they lie in memory. Contiguous, channels_last
            and permuted tensors are read in place, others through a copy made at every call.
        slices: rows of (tensor index, axis, start, stop), shape (slices, 4).
        threads: how many to use, the calling one included; None for as many as are fastest, up to
            `torch.get_num_threads()`.
        products: how many of `vocabulary.gram.PRODUCTS` to measure: the six, 7 (with wp) or
            8 (with ws).
        kept: copies of the weights, laid out like them, that the caller owns and never moves. A
            call reads them where `before` is None.

    Attributes:
        rolls: for each tensor whether its slices hold each entry once, so that the loop that sums
            it can also copy it.

    Raises:
        InvalidArgument: a slice outside its tensor, a dtype or device that cannot be measured,
            fewer than one thread, other products.

    >>> before = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> after = torch.tensor([[3.0, 5.0], [1.0, 2.0]])
    >>> out = np.empty((2, 6))
    >>> with CpuGram([before], slices=[(0, 0, 0, 1), (0, 0, 1, 2)]) as measure:
    ...     _ = measure([after], [before], [None], out)
    >>> out
    array([[25.,  4.,  1., nan, nan, nan],
           [ 1.,  0.,  4., nan, nan, nan]])

    With the state of an optimizer that divides by √v, here 2 and 1, the seventh product <w, Px>:

    >>> from spherical_motion.measure import Preconditioner
    >>> grad = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    >>> by_root = Preconditioner(state=torch.tensor([[4.0, 4.0], [1.0, 1.0]]), root=1.0)
    >>> out = np.empty((2, 7))
    >>> with CpuGram([before], slices=[(0, 0, 0, 1), (0, 0, 1, 2)], products=7) as measure:
    ...     _ = measure([after], [before], [grad], out, [by_root])
    >>> out[:, 6]
    array([3.5, 1. ])
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor],
        slices: ArrayLike,
        threads: int | None = None,
        products: int = len(FIELDS),
        kept: Sequence[torch.Tensor] | None = None,
    ) -> None:
        if threads is not None:
            remedy = "Leave it out to let it measure how many are fastest."
            whole("CpuGram", "threads", threads, least=1, remedy=remedy)
        least, most = len(FIELDS), len(PRODUCTS)
        self.products = whole("CpuGram", "products", products, least=least, most=most)
        for i, tensor in enumerate(tensors):
            check_measurable(f"CpuGram(tensors=...): tensor {i}", tensor)
        self._layouts = [StridedLayout.of(tensor) for tensor in tensors]
        self._table = TileTable.cut(self._layouts, slices)
        self._shares = cut_shares(self._table.entries)
        self.rolls = rolling(self._layouts, slices)
        sizes = np.array([tensor.element_size() for tensor in tensors], dtype=np.int64)
        self._sums = np.zeros((len(self._table.tiles), least))
        self._team = Team("spherical-motion-gram")
        compile_cached(sum_gram, OF_LOOP, "sum_gram")
        compile_cached(fold_and_look, OF_FOLD, "fold_and_look")
        self._places = [Places(self._layouts, f"CpuGram: {name}") for name in NAMES]
        self._addresses = np.zeros((len(NAMES), len(tensors)), dtype=np.int64)
        for places, row in zip(self._places, self._addresses, strict=True):
            places.addresses = row
        self._kept = self._last_before = kept
        if kept is not None and not self._places[1].holds(kept):
            raise InvalidArgument(
                "CpuGram(kept=...) must lie in memory like the weights. Make them with Snapshot."
            )
        own = (self._table.tiles, self._table.rows, self._sums)
        self._sum_tiles = {
            roll: functools.partial(sum_gram, self._addresses, sizes, scales, *own)
            for roll, scales in ((False, np.zeros(len(tensors))), (True, self.rolls * 1.0))
        }
        self._pulls = None
        if self.products > least:
            self._pulls = PullSums(self._layouts, sizes, self._table, self.products, self.rolls)
        # One share is too little to be worth waking a thread for.
        given = min(torch.get_num_threads() if threads is None else threads, len(self._shares))
        self._choice = ThreadChoice(given) if threads is None and given > 1 else None
        self._threads = max(given, 1)
        self._accepted: NDArray[np.float64] | None = None
        self._found: Sequence[torch.Tensor] | None = None

    @property
    def threads(self) -> int:
        """How many the next call uses, at most."""
        return self._threads if self._choice is None else self._choice.threads

    def __call__(
        self,
        after: Sequence[torch.Tensor],
        before: Sequence[torch.Tensor] | None,
        grads: Sequence[torch.Tensor | None],
        out: NDArray[np.float64],
        preconditioners: Preconditioners | None = None,
        earlier: Preconditioners | None = None,
        *,
        roll: bool = False,
    ) -> bool:
        """Measure one step.

        Args:
            after: the weights after the step, one for each tensor given at construction, of its
                dtype and shape. Tensors with other strides are re-laid, here and below.
            before: the weights before the step; None for the `kept` ones.
            grads: loss gradients at `before`; None makes its products NaN.
            out: (slices, products) or wider, float64 and C-contiguous; overwritten, in the order
                of `vocabulary.gram.PRODUCTS`.
            preconditioners: those of the step, with `products` from 7 on, as a sequence or a
                `PreconditionerTable`. Where there is none, wp and ws are NaN, and the six cost
                what they do without.
            earlier: those of the step before, with copies of their `state` and `average` from
                before this step, with `products` 8. Where there is none, ws is NaN.
            roll: also copy `after` over `before`, for all tensors that `rolls` names. Changes no
                bit of the sums.

        Returns:
            Whether the six are finite and every slice has a gradient that is not zero, so that
            there is nothing to look for in `out`.

        Raises:
            InvalidArgument: something has another length, shape, dtype or device, or no memory.
        """
        if out is not self._accepted:
            self._check_out(out)
        if preconditioners is not None or earlier is not None:
            self._check_lengths(preconditioners, earlier)
        with self._team.lock:
            old = self._find_before(before)
            found, missing, of_grads = self._find(after), None, grads
            if not self._places[2].fits(grads):
                # For a missing gradient the weights are read; NaN replaces their products below.
                missing = np.array([grad is None for grad in grads], dtype=bool)
                of_grads = self._places[2].find(self._filled(grads, after))
            sums, kept = self._sums, []
            work: Callable[[int, int], None] = self._sum_tiles[roll]
            if self._pulls and preconditioners is not None and not _is_empty(preconditioners):
                sums, work = self._pulls.sums, functools.partial(self._pulls, roll)
                kept = self._pulls.read(self._addresses, old, preconditioners, earlier)
            self._run(work, (found, old, of_grads, kept))
            is_plain = bool(fold_and_look(sums, self._table.first, out))
        if out.shape[1] > sums.shape[1]:
            out[:, sums.shape[1] :] = np.nan
        if missing is not None and missing.any():
            out[missing[self._table.tensor], WITH_GRADIENT] = np.nan
            return False
        return is_plain

    def find_weights(self, weights: Sequence[torch.Tensor]) -> bool:
        """Look where the weights lie before a step; whether in place, and where they lay last.

        A call that follows only looks whether they lie still, in a third of the time.
        """
        self._found = weights
        places = self._places[0]
        places.find(weights)
        return places.steady

    @property
    def weight_addresses(self) -> NDArray[np.int64]:
        """Where each of the weights began when they were found last, (tensors,)."""
        return self._places[0].addresses

    def _find(self, after: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        known, self._found = after is self._found, None
        if known and self._places[0].lie_still(after):
            return after
        return self._places[0].find(after)

    def _filled(
        self, grads: Sequence[torch.Tensor | None], after: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        self._check_lengths(grads)
        return [a if g is None else g for a, g in zip(after, grads, strict=True)]

    def _find_before(self, before: Sequence[torch.Tensor] | None) -> Sequence[torch.Tensor]:
        """The weights before the step; where the kept ones lie is known already."""
        if before is not None:
            self._last_before = None
            return self._places[1].find(before)
        if self._kept is None:
            raise InvalidArgument("CpuGram: before may be None only with CpuGram(kept=...).")
        if self._last_before is None:
            self._places[1].find(self._kept)
            self._last_before = self._kept
        return self._kept

    def _run(self, work: Callable[[int, int], None], placed: object) -> None:
        """Sum all tiles on as many threads as are fastest."""
        if self._threads == 1:
            work(0, len(self._table.tiles))
            return
        began, threads = time.perf_counter(), self.threads
        if threads == 1:
            work(0, len(self._table.tiles))
        else:
            shares = deque(self._shares)
            self._team.run(lambda: _take(shares, work, placed), threads)
        if self._choice is not None:
            self._choice.took(time.perf_counter() - began)

    def close(self) -> None:
        """End the threads. May be repeated; a later call starts them again."""
        self._team.close()

    def __enter__(self) -> CpuGram:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_lengths(self, *lists: Sequence[object] | None) -> None:
        names = ("grads",) if len(lists) == 1 else ("preconditioners", "earlier")
        for name, given in zip(names, lists, strict=True):
            if given is not None and len(given) != len(self._layouts):
                raise InvalidArgument(
                    f"CpuGram: {name} must hold one entry for each of the {len(self._layouts)} "
                    f"tensors given at construction, got {len(given)}."
                )

    def _check_out(self, out: NDArray[np.float64]) -> None:
        shape = (len(self._table.tensor), self.products)
        fits = out.ndim == 2 and len(out) == shape[0] and shape[1] <= out.shape[1] <= len(PRODUCTS)
        if not fits or out.dtype != np.float64 or not out.flags.carray:
            raise InvalidArgument(
                f"CpuGram: out must be a writable C-contiguous float64 array of shape {shape}, "
                f"got {out.dtype} of shape {out.shape}. Make it with numpy.empty({shape})."
            )
        self._accepted = out


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
