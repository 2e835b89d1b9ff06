"""Turning groups on the CPU: compiled loops that read each group twice, the second time from cache.

A block of groups is summed and, while it is still in the cache, combined; so memory is read once
and written once, where separate torch operations would go over it ten times.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from torch import Tensor

from spherical_motion.binding import Members
from spherical_motion.measure.kernel import FASTMATH, pointer_to
from spherical_motion.optim._blocks_cpu import INDEX, INDICES, NUMBERS, TABLE, CpuBlocks
from spherical_motion.optim._passes_cpu import sum_two
from spherical_motion.optim.rotation import RADIAL

__all__ = ["CpuRotation", "can_rotate_on_cpu", "compile_rotation"]

BLOCK = 512
"""Entries summed before they are added to the sum of their tile."""

can_rotate_on_cpu = CpuBlocks.fits


def _loops(scalar: types.Float) -> tuple[Any, Any]:
    """Compiled functions that sum a tile and that combine it in place.

    `other` is where the weights before the step lie if `factor` is NaN; otherwise the step is
    `factor` times what lies there.
    """
    pointer = pointer_to(scalar)
    size = scalar.bitwidth // 8
    real = np.float32 if size == 4 else np.float64

    @numba.njit(nogil=True, fastmath=FASTMATH)
    def add_tile(after, before, outer, stride, inner, sums, row):
        sums[row, 0] = sums[row, 1] = sums[row, 2] = 0.0
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for start in range(0, inner, BLOCK):
                count = min(BLOCK, inner - start)
                ww = wd = dd = 0.0
                for run in range(first, min(first + runs, outer)):
                    shift = (run * stride + start) * size
                    after_run = pointer(after + shift)
                    before_run = pointer(before + shift)
                    for i in range(count):
                        w = np.float64(before_run[i])
                        d = np.float64(after_run[i]) - w
                        ww += w * w
                        wd += w * d
                        dd += d * d
                sums[row, 0] += ww
                sums[row, 1] += wd
                sums[row, 2] += dd

    @numba.njit(nogil=True, fastmath={"contract"})
    def combine_tile(after, other, outer, stride, inner, factor, a, b):
        copied = math.isnan(factor)
        # In the arithmetic in which the weights are kept; unless A is far from 1, the change is
        # computed by itself, so that only the last addition rounds them. The factor of the step
        # comes as a sum of two numbers: rounded to one, it would be off alike in all entries.
        keep = 1.0 if abs(a - 1.0) < 0.5 else 0.0
        base, of_w = real(keep), real(a - keep)
        # With w = after - d, A·w + B·d = A·after + (B - A)·d.
        exact = b if copied else (b - a) * factor
        most = real(exact)
        rest = real(exact - np.float64(most))
        for run in range(outer):
            after_run = pointer(after + run * stride * size)
            other_run = pointer(other + run * stride * size)
            if copied:
                for i in range(inner):
                    w = other_run[i]
                    d = after_run[i] - w
                    after_run[i] = base * w + (of_w * w + rest * d + most * d)
            else:
                for i in range(inner):
                    x, d = after_run[i], other_run[i]
                    after_run[i] = base * x + (of_w * x + rest * d + most * d)

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
def _add_copied(addresses, sizes, steps, tiles, sums, start, stop):
    for t in range(start, stop):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, row = tiles[t, 1] * sizes[tensor], tiles[t, 5]
        after, before = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        if sizes[tensor] == 4:
            _add_float32(after, before, outer, stride, inner, sums, row)
        else:
            _add_float64(after, before, outer, stride, inner, sums, row)


@numba.njit(nogil=True)
def _add_told(addresses, sizes, steps, tiles, sums, start, stop):
    sum_two(addresses, sizes, tiles, sums, start, stop)
    for t in range(start, stop):
        step, row = steps[tiles[t, 0]], tiles[t, 5]
        # With w = x - d and d = step·m: from <x,x>, <x,m>, <m,m> to <w,w>, <w,d>, <d,d>.
        xx, xd, dd = sums[row, 0], step * sums[row, 1], step * step * sums[row, 2]
        sums[row, 0], sums[row, 1], sums[row, 2] = xx - 2.0 * xd + dd, xd - dd, dd


@numba.njit(nogil=True)
def _turn_all(angle, radius, turns, lost, sums, factors, start, stop):
    for g in range(start, stop):
        factors[g, 0], factors[g, 1], radius[g] = _turn(
            sums[g, 0], sums[g, 1], sums[g, 2], angle[g], radius[g], turns[g], lost[g]
        )


@numba.njit(nogil=True)
def _combine(addresses, sizes, steps, tiles, groups, factors, start, stop):
    # Backwards, as the blocks are: what was summed last is still in the nearest cache.
    for t in range(stop - 1, start - 1, -1):
        a, b = factors[groups[t], 0], factors[groups[t], 1]
        if a == 1.0 and b == 1.0:
            continue
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, step = tiles[t, 1] * sizes[tensor], steps[tensor]
        after, other = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        if sizes[tensor] == 4:
            _combine_float32(after, other, outer, stride, inner, step, a, b)
        else:
            _combine_float64(after, other, outer, stride, inner, step, a, b)


def compile_rotation() -> None:
    """Compile for the types they are called with; takes time only once a process."""
    numbers, flags = types.float64[::1], types.boolean[::1]
    for add in (_add_copied, _add_told):
        add.compile((TABLE, INDICES, numbers, TABLE, NUMBERS, INDEX, INDEX))
    _turn_all.compile((numbers, numbers, flags, numbers, NUMBERS, NUMBERS, INDEX, INDEX))
    _combine.compile((TABLE, INDICES, numbers, TABLE, INDICES, NUMBERS, INDEX, INDEX))


class CpuRotation:
    """Rotation by compiled loops; arguments and results as of `TorchRotation`.

    >>> import torch
    >>> from spherical_motion.binding import bind
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
        self._members = members
        self._blocks = CpuBlocks(members)
        self._turns = np.ascontiguousarray(turns.numpy())
        self._lost = np.ascontiguousarray(lost.numpy())
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
        blocks = self._blocks
        after = [p.data_ptr() for p in self._members.parameters]
        addresses = np.array([after, [old.data_ptr() for old in before]], dtype=np.int64)
        steps = np.full(len(after), math.nan) if factors is None else np.array(factors)
        add = _add_copied if factors is None else _add_told
        arguments = addresses, blocks.sizes, steps, blocks.tiles
        groups = angle.numpy(), radius.numpy(), self._turns, self._lost
        blocks.step(
            functools.partial(add, *arguments, blocks.tile_sums),
            functools.partial(_turn_all, *groups, blocks.sums, blocks.factors),
            functools.partial(_combine, *arguments, blocks.group_of_tile, blocks.factors),
        )

    def close(self) -> None:
        """End the threads; a later call starts them again."""
        self._blocks.close()
