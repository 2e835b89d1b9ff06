"""Both passes in compiled CPU loops, as fast as memory can be read.

Torch can neither sum a product in float64 nor mix two tensors by a factor a row in one operation;
in several, a step reads everything many times. `TorchPasses` is the reference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.binding import Members
from spherical_motion.measure.loops import Compiled, compile_loops, pointer_to, sum_loop, tile_loop
from spherical_motion.optim.engine.blocks import CpuBlocks, Work
from spherical_motion.optim.engine.passes import Vectors

Turn = Callable[[NDArray[np.float64], NDArray[np.float64], int, int], object]
"""`turn(sums, factors, start, stop)` writes the factors of groups `start:stop`."""


def _mix(scalar: types.Float, three: bool) -> Compiled:
    """Work of a tile: x, and with momentum m, mixed by `Factors` in the arithmetic of `scalar`.

    A step changes weights by little. Unless x_x is far from 1, the change is computed by itself,
    so that only the last addition rounds the weights.
    """
    pointer, size = pointer_to(scalar), scalar.bitwidth // 8
    real = np.float32 if size == 4 else np.float64

    @numba.njit(nogil=True, fastmath={"contract"})
    def mix_tile(x, g, m, outer, stride, inner, scale, own):
        keep = 1.0 if abs(own[0] - 1.0) < 0.5 else 0.0
        base, x_x, x_g, x_m = real(keep), real(own[0] - keep), real(own[1]), real(own[2])
        m_x, m_g, m_m = real(own[3]), real(own[4]), real(own[5])
        for run in range(outer):
            shift = run * stride * size
            x_run, g_run, m_run = pointer(x + shift), pointer(g + shift), pointer(m + shift)
            for i in range(inner):
                a, b = x_run[i], g_run[i]
                if three:
                    c = m_run[i]
                    x_run[i] = base * a + (x_x * a + x_g * b + x_m * c)
                    m_run[i] = m_x * a + m_g * b + m_m * c
                else:
                    x_run[i] = base * a + (x_x * a + x_g * b)

    return mix_tile


# The columns that `Products` names, of x and g or of x, g and m.
sum_two, sum_three = sum_loop(2), sum_loop(3)
mix_two = tile_loop(2, lambda scalar: _mix(scalar, False), backwards=True)
mix_three = tile_loop(3, lambda scalar: _mix(scalar, True), backwards=True)


class CpuPasses:
    """`Passes` over float32 and float64 tensors on the CPU that fill a block of memory each.

    The order of summation depends on the shapes alone: the number of threads changes no bit.
    """

    fits = staticmethod(CpuBlocks.fits)

    def __init__(self, members: Members) -> None:
        self._kinds = _kinds(members)
        self._blocks = CpuBlocks(members)
        compile_loops(sum_two, sum_three, mix_two, mix_three)

    def matches(self, members: Members) -> bool:
        """Whether the parameters still lie in memory as they did."""
        return self._kinds == _kinds(members)

    def sums(self, x: Vectors, g: Vectors, m: Vectors | None) -> Tensor:
        tensors = self._placed(x, g, m)
        self._blocks.sum(self._summing(tensors))
        return torch.from_numpy(self._blocks.sums[:, : 3 if m is None else 6].copy())

    def update(self, x: Vectors, g: Vectors, m: Vectors | None, factors: Tensor) -> None:
        tensors = self._placed(x, g, m)
        self._blocks.factors[:, : factors.shape[1]] = factors.numpy()
        self._blocks.move(self._mixing(tensors))

    def step(self, x: Vectors, g: Vectors, m: Vectors | None, turn: Turn) -> None:
        """`sums` and `update` in one, block by block; several threads call `turn`."""
        tensors = self._placed(x, g, m)
        turn_groups = functools.partial(turn, self._blocks.sums, self._blocks.factors)
        self._blocks.step(self._summing(tensors), turn_groups, self._mixing(tensors))

    def _placed(self, x: Vectors, g: Vectors, m: Vectors | None) -> list[list[Tensor]]:
        """The two or three lists; only gradients may lie otherwise and need a copy."""
        lists = [[t.detach() for t in x], self._blocks.place(g)]
        return lists if m is None else [*lists, [t.detach() for t in m]]

    def _summing(self, tensors: list[list[Tensor]]) -> Work:
        loop = sum_two if len(tensors) == 2 else sum_three
        return self._blocks.work(loop, tensors, sums=True)

    def _mixing(self, tensors: list[list[Tensor]]) -> Work:
        loop = mix_two if len(tensors) == 2 else mix_three
        return self._blocks.work(loop, tensors, sums=False)


def _kinds(members: Members) -> list[tuple[object, ...]]:
    return [(p.device.type, p.dtype, p.stride()) for p in members.parameters]
