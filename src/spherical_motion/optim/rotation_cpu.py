"""Turning groups on the CPU: compiled loops that read each group twice, the second time from cache.

A group is summed and, while it is still in the cache, combined; so memory is read once and written
once, where separate torch operations would go over it ten times. The loops are serial and release
the GIL; the groups are shared out among threads, large ones first.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.measure.kernel import FASTMATH, _pointer_to
from spherical_motion.measure.layout import DTYPES, Layout
from spherical_motion.measure.tiles import TileTable
from spherical_motion.optim.members import Members
from spherical_motion.optim.rotation import RADIAL

__all__ = ["CpuRotation", "compile_rotation", "can_rotate_on_cpu"]

BLOCK = 512
SHARE = 131_072
"""Entries, at least, that a thread takes at a time."""


def _loops(scalar: types.Float) -> tuple[Any, Any]:
    """Compiled functions that sum a tile and that combine it in place.

    `other` is where the weights before the step lie if `factor` is NaN; otherwise the step is
    `factor` times what lies there.
    """
    pointer = _pointer_to(scalar)
    size = scalar.bitwidth // 8
    kind = np.float32 if size == 4 else np.float64

    @numba.njit(nogil=True, fastmath=FASTMATH)
    def add_tile(after, other, outer, stride, inner, factor, sums):
        copied = math.isnan(factor)
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for start in range(0, inner, BLOCK):
                count = min(BLOCK, inner - start)
                ww = wd = dd = 0.0
                for run in range(first, min(first + runs, outer)):
                    shift = (run * stride + start) * size
                    after_run = pointer(after + shift)
                    other_run = pointer(other + shift)
                    if copied:
                        for i in range(count):
                            w = np.float64(other_run[i])
                            d = np.float64(after_run[i]) - w
                            ww += w * w
                            wd += w * d
                            dd += d * d
                    else:
                        for i in range(count):
                            d = factor * np.float64(other_run[i])
                            w = np.float64(after_run[i]) - d
                            ww += w * w
                            wd += w * d
                            dd += d * d
                sums[0] += ww
                sums[1] += wd
                sums[2] += dd

    @numba.njit(nogil=True, fastmath=FASTMATH)
    def combine_tile(after, other, outer, stride, inner, factor, a, b):
        copied = math.isnan(factor)
        for run in range(outer):
            after_run = pointer(after + run * stride * size)
            other_run = pointer(other + run * stride * size)
            if copied:
                for i in range(inner):
                    w = np.float64(other_run[i])
                    d = np.float64(after_run[i]) - w
                    after_run[i] = kind(a * w + b * d)
            else:
                for i in range(inner):
                    d = factor * np.float64(other_run[i])
                    w = np.float64(after_run[i]) - d
                    after_run[i] = kind(a * w + b * d)

    return add_tile, combine_tile


_add_float32, _combine_float32 = _loops(types.float32)
_add_float64, _combine_float64 = _loops(types.float64)


@numba.njit(nogil=True)
def _turn(ww, wd, dd, angle, radius, turns, lost):
    """(A, B, radius) of one group, as `rotation.coefficients` has them."""
    if not (
        ww > 0.0 and dd != 0.0 and math.isfinite(ww) and math.isfinite(wd) and math.isfinite(dd)
    ):
        return 1.0, 1.0, radius
    norm = math.sqrt(ww)
    if not radius > 0.0:
        radius = norm
    tangential = dd - wd * wd / ww
    if not (turns and tangential > lost * lost * ww and tangential > RADIAL * dd):
        return radius / norm, 0.0, radius
    b = radius * math.sin(angle) / math.sqrt(tangential)
    return radius * math.cos(angle) / norm - b * wd / ww, b, radius


@numba.njit(nogil=True)
def _rotate(addresses, sizes, factors, tiles, first, chosen, angle, radius, turns, lost):
    sums = np.zeros(3)
    for g in chosen:
        sums[:] = 0.0
        for t in range(first[g], first[g + 1]):
            tensor = tiles[t, 0]
            shift = tiles[t, 1] * sizes[tensor]
            after, before = addresses[0, tensor] + shift, addresses[1, tensor] + shift
            if sizes[tensor] == 4:
                _add_float32(
                    after, before, tiles[t, 2], tiles[t, 3], tiles[t, 4], factors[tensor], sums
                )
            else:
                _add_float64(
                    after, before, tiles[t, 2], tiles[t, 3], tiles[t, 4], factors[tensor], sums
                )
        a, b, radius[g] = _turn(sums[0], sums[1], sums[2], angle[g], radius[g], turns[g], lost[g])
        if a == 1.0 and b == 1.0:
            continue
        # Backwards: what was summed last is still in the nearest cache.
        for t in range(first[g + 1] - 1, first[g] - 1, -1):
            tensor = tiles[t, 0]
            shift = tiles[t, 1] * sizes[tensor]
            after, before = addresses[0, tensor] + shift, addresses[1, tensor] + shift
            if sizes[tensor] == 4:
                _combine_float32(
                    after, before, tiles[t, 2], tiles[t, 3], tiles[t, 4], factors[tensor], a, b
                )
            else:
                _combine_float64(
                    after, before, tiles[t, 2], tiles[t, 3], tiles[t, 4], factors[tensor], a, b
                )


def compile_rotation() -> None:
    """Compile for the types it is called with; takes time only once a process."""
    table, indices, numbers = types.int64[:, ::1], types.int64[::1], types.float64[::1]
    _rotate.compile(
        (
            table,
            indices,
            numbers,
            table,
            indices,
            indices,
            numbers,
            numbers,
            types.boolean[::1],
            numbers,
        )
    )


def can_rotate_on_cpu(members: Members) -> bool:
    """Whether every weight is float32 or float64, on the CPU, and without gaps in memory."""
    return all(
        p.is_cpu
        and p.dtype in DTYPES
        and Layout.of(p.detach()).strides == tuple(torch.atleast_1d(p.detach()).stride())
        for p in members.parameters
    )


class CpuRotation:
    """Rotation by compiled loops; arguments and results as of `TorchRotation`.

    >>> from spherical_motion.optim.members import bind
    >>> from spherical_motion.vocabulary import InvariantGroup, Slice
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.LayerNorm(1))
    >>> row = Slice("0.weight", 0, 0, 1)
    >>> members = bind(net, [InvariantGroup("0", "scale", (row,), (), 2, defect=0.0)])
    >>> before = [torch.tensor([[2.0, 0.0]])]
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 0.1]]))
    >>> number = torch.ones(1, dtype=torch.float64)
    >>> rotate = CpuRotation(members, number > 0, 1e-7 * number)
    >>> rotate(before, number * torch.pi / 6, 2.0 * number)
    >>> net[0].weight.data
    tensor([[1.7321, 1.0000]])
    """

    def __init__(self, members: Members, turns: Tensor, lost: Tensor) -> None:
        place = {id(p): i for i, p in enumerate(members.parameters)}
        slices = [
            (place[id(piece.parameter)], piece.slice.axis, piece.slice.start, piece.slice.stop)
            for own in members.pieces
            for piece in own
        ]
        tensors = [p.detach() for p in members.parameters]
        table = TileTable.cut([Layout.of(tensor) for tensor in tensors], slices)
        # In the order of the slices, so that a group's tiles lie side by side.
        self._tiles = np.ascontiguousarray(table.tiles[np.argsort(table.tiles[:, 5])])
        ends = np.cumsum([0, *(len(own) for own in members.pieces)])
        self._first = np.ascontiguousarray(table.first[ends])
        entries = np.concatenate([[0], np.cumsum(self._tiles[:, 2] * self._tiles[:, 4])])
        self._shares = _shared_out(np.diff(entries[self._first]))
        self._sizes = np.array([t.element_size() for t in tensors], dtype=np.int64)
        self._members = members
        self._turns = np.ascontiguousarray(turns.numpy())
        self._lost = np.ascontiguousarray(lost.numpy())
        self._helpers = min(torch.get_num_threads(), len(self._shares)) - 1
        self._executor: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        compile_rotation()

    def __call__(
        self,
        before: Sequence[Tensor],
        angle: Tensor,
        radius: Tensor,
        factors: Sequence[float] | None = None,
    ) -> None:
        """See `TorchRotation.__call__`.

        With `factors`, one for each parameter, `before` holds no earlier weights: the step was
        `factors[i] * before[i]`, and the weights before it follow, up to their own rounding.
        """
        weights = [p.detach() for p in self._members.parameters]
        addresses = np.array(
            [[w.data_ptr() for w in weights], [old.data_ptr() for old in before]], dtype=np.int64
        )
        shares = deque(self._shares)
        steps = np.full(len(weights), math.nan) if factors is None else np.array(factors)
        numbers = steps, angle.numpy(), radius.numpy()
        if self._process != os.getpid():  # the parent's threads do not exist here
            self._process, self._executor = os.getpid(), None
        helping = []
        if self._helpers:
            self._executor = self._executor or ThreadPoolExecutor(self._helpers)
            helping = [
                self._executor.submit(self._work, shares, addresses, *numbers)
                for _ in range(self._helpers)
            ]
        self._work(shares, addresses, *numbers)
        for helper in helping:
            if not helper.cancel():
                helper.result()

    def close(self) -> None:
        """End the threads; a later call starts them again."""
        executor, self._executor = self._executor, None
        if executor is not None and self._process == os.getpid():
            executor.shutdown()

    def _work(
        self,
        shares: deque[NDArray[np.int64]],
        addresses: NDArray[np.int64],
        factors: NDArray[np.float64],
        angle: NDArray[np.float64],
        radius: NDArray[np.float64],
    ) -> None:
        while True:
            try:
                chosen = shares.popleft()
            except IndexError:
                return
            _rotate(
                addresses,
                self._sizes,
                factors,
                self._tiles,
                self._first,
                chosen,
                angle,
                radius,
                self._turns,
                self._lost,
            )


def _shared_out(entries: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Groups in bundles of at least `SHARE` entries, the largest bundle first."""
    number = np.concatenate([[0], np.cumsum(entries)[:-1]]) // SHARE
    bundles = np.split(np.arange(len(entries)), np.flatnonzero(np.diff(number)) + 1)
    return sorted(bundles, key=lambda own: -int(entries[own].sum()))
