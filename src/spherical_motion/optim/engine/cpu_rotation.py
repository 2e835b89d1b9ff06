"""Turn groups on the CPU: compiled loops read each group twice, the second time from the cache.

Memory is read once and written once; separate torch operations would go over it ten times.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numba
import numpy as np
from numba import types
from torch import Tensor

from spherical_motion.binding import Members
from spherical_motion.measure.loops import Compiled, compile_loops, pointer_to, sum_loop, tile_loop
from spherical_motion.optim.engine.blocks import CpuBlocks
from spherical_motion.optim.engine.cpu_passes import sum_two
from spherical_motion.optim.engine.rotation import RADIAL


def _combine_tile(scalar: types.Float) -> Compiled:
    """Work of a tile: the new weights in place, A·w + B·d with w the weights before the step d.

    If `scale` is NaN, `other` holds w; otherwise it holds d/scale.
    """
    pointer, size = pointer_to(scalar), scalar.bitwidth // 8
    real = np.float32 if size == 4 else np.float64

    @numba.njit(nogil=True, fastmath={"contract"})
    def combine_tile(after, other, third, outer, stride, inner, scale, own):
        a, b = own[0], own[1]
        if a == 1.0 and b == 1.0:
            return
        copied = math.isnan(scale)
        # In the dtype of the weights. Unless A is far from 1, the change is computed by itself, so
        # that only the last addition rounds them. The factor of the step is a sum of two numbers:
        # rounded to one, it would be wrong by the same share in all entries.
        keep = 1.0 if abs(a - 1.0) < 0.5 else 0.0
        base, of_w = real(keep), real(a - keep)
        # With w = after - d, A·w + B·d = A·after + (B - A)·d.
        exact = b if copied else (b - a) * scale
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

    return combine_tile


# Of the weights after the step and before it: <w,w>, <w,d>, <d,d>.
_sum_copied = sum_loop(2, difference=True)
_combine = tile_loop(2, _combine_tile, backwards=True)


@numba.njit(nogil=True)
def _sum_read(addresses, sizes, scales, tiles, rows, sums, start, stop):
    """The same sums of the weights x after the step and of m, where the step is d = scale·m."""
    sum_two(addresses, sizes, scales, tiles, rows, sums, start, stop)
    for t in range(start, stop):
        step, row = scales[tiles[t, 0]], rows[t]
        # With w = x - d: from <x,x>, <x,m>, <m,m> to <w,w>, <w,d>, <d,d>.
        xx, xd, dd = sums[row, 0], step * sums[row, 1], step * step * sums[row, 2]
        sums[row, 0], sums[row, 1], sums[row, 2] = xx - 2.0 * xd + dd, xd - dd, dd


@numba.njit(nogil=True)
def _turn(ww, wd, dd, angle, radius, turns, lost):
    """(A, B, radius) of one group, as in `rotation.coefficients`."""
    finite = math.isfinite(ww) and math.isfinite(wd) and math.isfinite(dd)
    if not (ww > 0.0 and dd != 0.0 and finite):
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
def _turn_all(angle, radius, turns, lost, sums, factors, start, stop):
    for g in range(start, stop):
        factors[g, 0], factors[g, 1], radius[g] = _turn(
            sums[g, 0], sums[g, 1], sums[g, 2], angle[g], radius[g], turns[g], lost[g]
        )


class CpuRotation:
    """Rotation by compiled loops; arguments and results as of `TorchRotation`."""

    fits = staticmethod(CpuBlocks.fits)

    def __init__(self, members: Members, turns: Tensor, lost: Tensor) -> None:
        self._members = members
        self._blocks = CpuBlocks(members)
        self._turns = np.ascontiguousarray(turns.numpy())
        self._lost = np.ascontiguousarray(lost.numpy())
        compile_loops(_sum_copied, sum_two, _sum_read, _combine)
        numbers, flags = types.float64[::1], types.boolean[::1]
        matrix, index = types.float64[:, ::1], types.int64
        _turn_all.compile((numbers, numbers, flags, numbers, matrix, matrix, index, index))

    def __call__(
        self,
        before: Sequence[Tensor],
        angle: Tensor,
        radius: Tensor,
        factors: Sequence[float] | None = None,
    ) -> None:
        """As `TorchRotation.__call__`; with `factors` the step is `factors[i] * before[i]`.

        `before` then holds no earlier weights; they follow from the step, up to rounding.
        """
        blocks = self._blocks
        vectors = [self._members.parameters, before]
        scales = np.array(factors or [math.nan] * len(before), dtype=np.float64)
        add = _sum_copied if factors is None else _sum_read
        groups = angle.numpy(), radius.numpy(), self._turns, self._lost
        blocks.step(
            blocks.work(add, vectors, scales, sums=True),
            functools.partial(_turn_all, *groups, blocks.sums, blocks.factors),
            blocks.work(_combine, vectors, scales, sums=False),
        )

    def close(self) -> None:
        """End the threads; a later call starts them again."""
        self._blocks.close()
