"""Both passes on the CPU in compiled loops, which cost what reading the memory costs.

Torch has no operation that sums a product in float64 and none that mixes two tensors by a factor
a row; made of what it has, a step reads everything many times. `TorchPasses` is the reference.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.measure.layout import DTYPES, Layout
from spherical_motion.measure.tiles import TileTable
from spherical_motion.optim._passes import PRODUCTS
from spherical_motion.optim.members import Members

__all__ = ["CpuPasses"]

SHARE = 262_144
"""Entries a thread takes at a time."""

BLOCK = 512
"""Entries summed before they are added to the sum of their tile."""

# Sums may be reordered, which is what vectorises them. NaN and infinity must pass through.
FASTMATH = {"reassoc", "contract", "nsz"}


class CpuPasses:
    """`Passes` over float32 and float64 tensors on the CPU that fill a block of memory each.

    The order of summation depends on the shapes alone: the number of threads changes no bit.
    """

    @staticmethod
    def fits(members: Members) -> bool:
        """Whether all parameters are of a kind that the loops can read in place."""
        return all(
            p.is_cpu and p.dtype in DTYPES and p.layout == torch.strided and _is_dense(p)
            for p in members.parameters
        )

    def __init__(self, members: Members) -> None:
        self._layouts = [Layout.of(p.detach()) for p in members.parameters]
        self._kinds = _kinds(members)
        number = {id(p): i for i, p in enumerate(members.parameters)}
        slices = [
            (number[id(piece.parameter)], piece.slice.axis, piece.slice.start, piece.slice.stop)
            for own in members.pieces
            for piece in own
        ]
        counts = [len(own) for own in members.pieces]
        table = TileTable.cut(self._layouts, slices)
        self._tiles = table.tiles
        slice_of_row = np.repeat(np.arange(len(slices)), np.diff(table.first))
        group_of_slice = np.repeat(np.arange(len(counts)), counts)
        self._group_of_tile = group_of_slice[slice_of_row[table.tiles[:, 5]]]
        # Slices are in the order of the groups, and rows in the order of the slices.
        first_slice = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._first_row = table.first[first_slice]
        self._sums = np.zeros((len(table.tiles), len(PRODUCTS)))
        self._shares = list(self._cut_shares())
        self._flats: dict[str, tuple[list[int], list[NDArray[Any]]]] = {}
        self._gradients: tuple[Sequence[Tensor], list[NDArray[Any]]] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def matches(self, members: Members) -> bool:
        """Whether the parameters still lie in memory as they did."""
        return self._kinds == _kinds(members)

    def sums(self, x: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor] | None) -> Tensor:
        """As `Passes.sums`."""
        xs, gs = self._kept("x", x), self._flat(g)
        # The update that follows reads the same gradients; kept longer, they would fill memory.
        self._gradients = (g, gs)
        tiles, sums = self._tiles, self._sums
        if m is None:

            def work(tensor: int, start: int, stop: int) -> None:
                _sum_two(xs[tensor], gs[tensor], tiles, start, stop, sums)

        else:
            ms = self._kept("m", m)

            def work(tensor: int, start: int, stop: int) -> None:
                _sum_three(xs[tensor], gs[tensor], ms[tensor], tiles, start, stop, sums)

        self._run(work, self._shares)
        columns = sums[:, : 3 if m is None else 6]
        if len(self._first_row) < len(columns):
            columns = np.add.reduceat(columns, self._first_row, axis=0)
        # Column by column in memory, as a step reads them.
        return torch.from_numpy(np.array(columns.T, order="C")).T

    def update(
        self,
        x: Sequence[Tensor],
        g: Sequence[Tensor],
        m: Sequence[Tensor] | None,
        factors: Tensor,
    ) -> None:
        """As `Passes.update`."""
        same = self._gradients is not None and self._gradients[0] is g
        xs = self._kept("x", x)
        gs = self._gradients[1] if same and self._gradients else self._flat(g)
        self._gradients = None
        tiles, groups = self._tiles, self._group_of_tile
        by_group: NDArray[np.float64] = np.ascontiguousarray(factors.numpy().T)
        if m is None:

            def work(tensor: int, start: int, stop: int) -> None:
                mix = _MIX_TWO[xs[tensor].itemsize]
                mix(xs[tensor], gs[tensor], tiles, start, stop, groups, by_group)

        else:
            ms = self._kept("m", m)

            def work(tensor: int, start: int, stop: int) -> None:
                mix = _MIX_THREE[xs[tensor].itemsize]
                mix(xs[tensor], gs[tensor], ms[tensor], tiles, start, stop, groups, by_group)

        # Backwards: what the sums read last is still in the cache.
        self._run(work, self._shares[::-1])

    def _kept(self, name: str, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """`_flat` of tensors that are the same at every step, made anew only where one moved."""
        at = [t.data_ptr() for t in tensors]
        if name not in self._flats or self._flats[name][0] != at:
            self._flats[name] = (at, self._flat(tensors))
        return self._flats[name][1]

    def _flat(self, tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """Each tensor as the line of numbers it is in memory, laid out like the weights."""
        placed = (
            layout.place("gradient or state", tensor.detach())
            for layout, tensor in zip(self._layouts, tensors, strict=True)
        )
        return [t.as_strided((t.numel(),), (1,)).numpy() for t in placed]

    def _cut_shares(self) -> list[tuple[int, int, int]]:
        """(tensor, first tile, one past the last) of about `SHARE` entries each."""
        shares = []
        tensor, entries = self._tiles[:, 0], self._tiles[:, 2] * self._tiles[:, 4]
        edges = np.flatnonzero(np.diff(tensor, prepend=-1, append=-2))
        for start, stop in itertools.pairwise(edges.tolist()):
            ends = np.cumsum(entries[start:stop])
            parts = max(1, int(ends[-1]) // SHARE)
            inside = start + np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts)
            bounds = [start, *inside.tolist(), stop]
            shares += [(int(tensor[start]), a, b) for a, b in itertools.pairwise(bounds) if a < b]
        return shares

    def _run(
        self, work: Callable[[int, int, int], None], order: Sequence[tuple[int, int, int]]
    ) -> None:
        """Do `work` on all shares, on as many threads as torch uses."""
        shares = deque(order)
        helpers = min(torch.get_num_threads(), len(self._shares)) - 1
        if self._process != os.getpid():
            # The parent's threads do not exist in a forked child.
            self._process, self._executor = os.getpid(), None
        if helpers > 0 and self._executor is None:
            self._executor = ThreadPoolExecutor(helpers, "spherical-motion-step")
        helping = []
        if helpers > 0 and self._executor is not None:
            helping = [self._executor.submit(_drain, shares, work) for _ in range(helpers)]
        _drain(shares, work)
        for helper in helping:
            # One that has not begun by now has nothing left to do.
            if not helper.cancel():
                helper.result()


def _drain(shares: deque[tuple[int, int, int]], work: Callable[[int, int, int], None]) -> None:
    while True:
        try:
            share = shares.popleft()
        except IndexError:
            return
        work(*share)


def _kinds(members: Members) -> list[tuple[Any, ...]]:
    return [(p.device.type, p.dtype, p.stride()) for p in members.parameters]


def _is_dense(tensor: Tensor) -> bool:
    layout = Layout.of(tensor.detach())
    return layout.place("", tensor.detach()).data_ptr() == tensor.data_ptr()


@numba.njit(nogil=True, fastmath=FASTMATH)
def _sum_two(x, g, tiles, start, stop, sums):
    for t in range(start, stop):
        offset, outer, stride, inner, row = (
            tiles[t, 1],
            tiles[t, 2],
            tiles[t, 3],
            tiles[t, 4],
            tiles[t, 5],
        )
        sums[row, 0] = sums[row, 1] = sums[row, 2] = 0.0
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for begin in range(0, inner, BLOCK):
                count = min(BLOCK, inner - begin)
                xx = xg = gg = 0.0
                for run in range(first, min(first + runs, outer)):
                    at = offset + run * stride + begin
                    x_run = x[at : at + count]
                    g_run = g[at : at + count]
                    for i in range(count):
                        a = np.float64(x_run[i])
                        b = np.float64(g_run[i])
                        xx += a * a
                        xg += a * b
                        gg += b * b
                sums[row, 0] += xx
                sums[row, 1] += xg
                sums[row, 2] += gg


@numba.njit(nogil=True, fastmath=FASTMATH)
def _sum_three(x, g, m, tiles, start, stop, sums):
    for t in range(start, stop):
        offset, outer, stride, inner, row = (
            tiles[t, 1],
            tiles[t, 2],
            tiles[t, 3],
            tiles[t, 4],
            tiles[t, 5],
        )
        for field in range(6):
            sums[row, field] = 0.0
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for begin in range(0, inner, BLOCK):
                count = min(BLOCK, inner - begin)
                xx = xg = gg = xm = mm = mg = 0.0
                for run in range(first, min(first + runs, outer)):
                    at = offset + run * stride + begin
                    x_run = x[at : at + count]
                    g_run = g[at : at + count]
                    m_run = m[at : at + count]
                    for i in range(count):
                        a = np.float64(x_run[i])
                        b = np.float64(g_run[i])
                        c = np.float64(m_run[i])
                        xx += a * a
                        xg += a * b
                        gg += b * b
                        xm += a * c
                        mm += c * c
                        mg += c * b
                sums[row, 0] += xx
                sums[row, 1] += xg
                sums[row, 2] += gg
                sums[row, 3] += xm
                sums[row, 4] += mm
                sums[row, 5] += mg


def _mixers(real: Any) -> tuple[Any, Any]:
    """Loops that mix in the arithmetic of `real`, in which the tensors are kept.

    A step changes weights by little. So that only the last addition rounds them, what is added is
    computed by itself, unless A is far from 1.
    """

    @numba.njit(nogil=True, fastmath={"contract"})
    def mix_two(x, g, tiles, start, stop, groups, factors):
        for t in range(start, stop):
            offset, outer, stride, inner = tiles[t, 1], tiles[t, 2], tiles[t, 3], tiles[t, 4]
            own = factors[:, groups[t]]
            keep = 1.0 if abs(own[0] - 1.0) < 0.5 else 0.0
            base, of_x, of_g = real(keep), real(own[0] - keep), real(own[1])
            for run in range(outer):
                at = offset + run * stride
                x_run = x[at : at + inner]
                g_run = g[at : at + inner]
                for i in range(inner):
                    a = x_run[i]
                    x_run[i] = base * a + (of_x * a + of_g * g_run[i])

    @numba.njit(nogil=True, fastmath={"contract"})
    def mix_three(x, g, m, tiles, start, stop, groups, factors):
        for t in range(start, stop):
            offset, outer, stride, inner = tiles[t, 1], tiles[t, 2], tiles[t, 3], tiles[t, 4]
            own = factors[:, groups[t]]
            keep = 1.0 if abs(own[0] - 1.0) < 0.5 else 0.0
            base, of_x, of_g, of_m = real(keep), real(own[0] - keep), real(own[1]), real(own[2])
            m_x, m_g, m_m = real(own[3]), real(own[4]), real(own[5])
            for run in range(outer):
                at = offset + run * stride
                x_run = x[at : at + inner]
                g_run = g[at : at + inner]
                m_run = m[at : at + inner]
                for i in range(inner):
                    a, b, c = x_run[i], g_run[i], m_run[i]
                    x_run[i] = base * a + (of_x * a + of_g * b + of_m * c)
                    m_run[i] = m_x * a + m_g * b + m_m * c

    return mix_two, mix_three


_MIXERS = {4: _mixers(np.float32), 8: _mixers(np.float64)}
_MIX_TWO = {size: pair[0] for size, pair in _MIXERS.items()}
_MIX_THREE = {size: pair[1] for size, pair in _MIXERS.items()}
