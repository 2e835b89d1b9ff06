"""Both passes on the CPU in compiled loops, which cost what reading the memory costs.

Torch has no operation that sums a product in float64 and none that mixes two tensors by a factor
a row; made of what it has, a step reads everything many times. `TorchPasses` is the reference.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from torch import Tensor

from spherical_motion.binding import Members
from spherical_motion.measure.kernel import FASTMATH, pointer_to
from spherical_motion.optim._blocks_cpu import INDEX, INDICES, NUMBERS, TABLE, CpuBlocks, Work

__all__ = ["CpuPasses", "mix_three", "mix_two", "sum_three", "sum_two"]

BLOCK = 512
"""Entries summed before they are added to the sum of their tile."""


class CpuPasses:
    """`Passes` over float32 and float64 tensors on the CPU that fill a block of memory each.

    The order of summation depends on the shapes alone: the number of threads changes no bit.
    """

    fits = staticmethod(CpuBlocks.fits)

    def __init__(self, members: Members) -> None:
        self._kinds = _kinds(members)
        self._blocks = CpuBlocks(members)
        compile_passes()

    def matches(self, members: Members) -> bool:
        """Whether the parameters still lie in memory as they did."""
        return self._kinds == _kinds(members)

    def sums(self, x: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor] | None) -> Tensor:
        """As `Passes.sums`."""
        tensors = self._placed(x, g, m)
        self._blocks.sum(self._summing(tensors))
        return torch.from_numpy(self._blocks.sums[:, : 3 if m is None else 6].copy())

    def update(
        self,
        x: Sequence[Tensor],
        g: Sequence[Tensor],
        m: Sequence[Tensor] | None,
        factors: Tensor,
    ) -> None:
        """As `Passes.update`."""
        tensors = self._placed(x, g, m)
        self._blocks.factors[:, : factors.shape[1]] = factors.numpy()
        self._blocks.move(self._mixing(tensors))

    def step(
        self, x: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor] | None, turn: Any
    ) -> None:
        """`sums` and `update` in one, block by block.

        Args:
            x, g, m: as for both.
            turn: `turn(sums, factors, start, stop)` writes the factors of groups `start:stop`,
                given the sums of all, numpy arrays (groups, 6). Called from several threads.
        """
        tensors = self._placed(x, g, m)
        sums, factors = self._blocks.sums, self._blocks.factors
        self._blocks.step(
            self._summing(tensors), functools.partial(turn, sums, factors), self._mixing(tensors)
        )

    def _placed(
        self, x: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor] | None
    ) -> list[list[Tensor]]:
        """The two or three lists; only the gradient, which others make, may have to be copied."""
        lists = [[t.detach() for t in x], self._blocks.place(g)]
        return lists if m is None else [*lists, [t.detach() for t in m]]

    def _summing(self, tensors: list[list[Tensor]]) -> Work:
        blocks = self._blocks
        addresses = _addresses(tensors)
        # The tensors are bound too: what is read at an address has to stay there.
        return functools.partial(
            _sum, tensors, addresses, blocks.sizes, blocks.tiles, blocks.tile_sums
        )

    def _mixing(self, tensors: list[list[Tensor]]) -> Work:
        blocks = self._blocks
        return functools.partial(
            _mix,
            tensors,
            _addresses(tensors),
            blocks.sizes,
            blocks.tiles,
            blocks.group_of_tile,
            blocks.factors,
        )


def _addresses(tensors: list[list[Tensor]]) -> Any:
    return np.array([[t.data_ptr() for t in each] for each in tensors], dtype=np.int64)


def _sum(tensors: list[list[Tensor]], *arguments: Any) -> None:
    (sum_two if len(tensors) == 2 else sum_three)(*arguments)


def _mix(tensors: list[list[Tensor]], *arguments: Any) -> None:
    (mix_two if len(tensors) == 2 else mix_three)(*arguments)


def _kinds(members: Members) -> list[tuple[Any, ...]]:
    return [(p.device.type, p.dtype, p.stride()) for p in members.parameters]


def _summers(scalar: types.Float) -> tuple[Any, Any]:
    """Compiled functions that write the sums of a tile of `scalar` into `sums[row]`."""
    pointer = pointer_to(scalar)
    size = scalar.bitwidth // 8

    @numba.njit(nogil=True, fastmath=FASTMATH)
    def sum_two(x, g, outer, stride, inner, sums, row):
        sums[row, 0] = sums[row, 1] = sums[row, 2] = 0.0
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for begin in range(0, inner, BLOCK):
                count = min(BLOCK, inner - begin)
                xx = xg = gg = 0.0
                for run in range(first, min(first + runs, outer)):
                    shift = (run * stride + begin) * size
                    x_run, g_run = pointer(x + shift), pointer(g + shift)
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
    def sum_three(x, g, m, outer, stride, inner, sums, row):
        for field in range(6):
            sums[row, field] = 0.0
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for begin in range(0, inner, BLOCK):
                count = min(BLOCK, inner - begin)
                xx = xg = gg = xm = mm = mg = 0.0
                for run in range(first, min(first + runs, outer)):
                    shift = (run * stride + begin) * size
                    x_run, g_run, m_run = pointer(x + shift), pointer(g + shift), pointer(m + shift)
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

    return sum_two, sum_three


def _mixers(scalar: types.Float, real: Any) -> tuple[Any, Any]:
    """Compiled functions that mix a tile in the arithmetic of `real`, in which it is kept.

    A step changes weights by little. So that only the last addition rounds them, what is added is
    computed by itself, unless A is far from 1.
    """
    pointer = pointer_to(scalar)
    size = scalar.bitwidth // 8

    @numba.njit(nogil=True, fastmath={"contract"})
    def mix_two(x, g, outer, stride, inner, own):
        keep = 1.0 if abs(own[0] - 1.0) < 0.5 else 0.0
        base, of_x, of_g = real(keep), real(own[0] - keep), real(own[1])
        for run in range(outer):
            shift = run * stride * size
            x_run, g_run = pointer(x + shift), pointer(g + shift)
            for i in range(inner):
                a = x_run[i]
                x_run[i] = base * a + (of_x * a + of_g * g_run[i])

    @numba.njit(nogil=True, fastmath={"contract"})
    def mix_three(x, g, m, outer, stride, inner, own):
        keep = 1.0 if abs(own[0] - 1.0) < 0.5 else 0.0
        base, of_x, of_g, of_m = real(keep), real(own[0] - keep), real(own[1]), real(own[2])
        m_x, m_g, m_m = real(own[3]), real(own[4]), real(own[5])
        for run in range(outer):
            shift = run * stride * size
            x_run, g_run, m_run = pointer(x + shift), pointer(g + shift), pointer(m + shift)
            for i in range(inner):
                a, b, c = x_run[i], g_run[i], m_run[i]
                x_run[i] = base * a + (of_x * a + of_g * b + of_m * c)
                m_run[i] = m_x * a + m_g * b + m_m * c

    return mix_two, mix_three


_sum_two_float32, _sum_three_float32 = _summers(types.float32)
_sum_two_float64, _sum_three_float64 = _summers(types.float64)
_mix_two_float32, _mix_three_float32 = _mixers(types.float32, np.float32)
_mix_two_float64, _mix_three_float64 = _mixers(types.float64, np.float64)


@numba.njit(nogil=True)
def sum_two(addresses, sizes, tiles, sums, start, stop):
    for t in range(start, stop):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, row = tiles[t, 1] * sizes[tensor], tiles[t, 5]
        x, g = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        if sizes[tensor] == 4:
            _sum_two_float32(x, g, outer, stride, inner, sums, row)
        else:
            _sum_two_float64(x, g, outer, stride, inner, sums, row)


@numba.njit(nogil=True)
def sum_three(addresses, sizes, tiles, sums, start, stop):
    for t in range(start, stop):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, row = tiles[t, 1] * sizes[tensor], tiles[t, 5]
        x, g = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        m = addresses[2, tensor] + shift
        if sizes[tensor] == 4:
            _sum_three_float32(x, g, m, outer, stride, inner, sums, row)
        else:
            _sum_three_float64(x, g, m, outer, stride, inner, sums, row)


# Backwards, as the blocks are: what was summed last is still in the nearest cache.


@numba.njit(nogil=True)
def mix_two(addresses, sizes, tiles, groups, factors, start, stop):
    for t in range(stop - 1, start - 1, -1):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, own = tiles[t, 1] * sizes[tensor], factors[groups[t]]
        x, g = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        if sizes[tensor] == 4:
            _mix_two_float32(x, g, outer, stride, inner, own)
        else:
            _mix_two_float64(x, g, outer, stride, inner, own)


@numba.njit(nogil=True)
def mix_three(addresses, sizes, tiles, groups, factors, start, stop):
    for t in range(stop - 1, start - 1, -1):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, own = tiles[t, 1] * sizes[tensor], factors[groups[t]]
        x, g = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        m = addresses[2, tensor] + shift
        if sizes[tensor] == 4:
            _mix_three_float32(x, g, m, outer, stride, inner, own)
        else:
            _mix_three_float64(x, g, m, outer, stride, inner, own)


def compile_passes() -> None:
    """Compile for the types they are called with; takes time only once a process."""
    for sum_all in (sum_two, sum_three):
        sum_all.compile((TABLE, INDICES, TABLE, NUMBERS, INDEX, INDEX))
    for mix_all in (mix_two, mix_three):
        mix_all.compile((TABLE, INDICES, TABLE, INDICES, NUMBERS, INDEX, INDEX))
