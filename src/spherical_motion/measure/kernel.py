"""The compiled loops: six float64 sums of each tile, and their fold into slices.

They are serial and release the GIL; threads are the caller's.

Why sums of sums. The tangential part of a mostly radial step is the small difference of two of
these sums: when the radial part is 10⁴ times larger, it magnifies their rounding errors by 10⁸.
One running sum over n entries may gather n of those errors; blocks, tiles and a pairwise fold
gather about a hundred, 10⁻¹⁴, for any values and any n.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

__all__ = ["FASTMATH", "compile_kernels", "fold_tiles", "pointer_to", "sum_tiles"]

BLOCK = 512
"""Entries summed before they are added to the sum of their tile."""

# Sums may be reordered, which is what vectorises them, and multiply-adds fused. NaN and infinity
# must pass through: hence not fastmath=True, which would promise that there are none.
FASTMATH = {"reassoc", "contract", "nsz"}


def pointer_to(scalar: types.Float) -> Any:
    """A compiled function that takes an address (int64) for a pointer to `scalar`."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(scalar)(types.int64), generate

    return pointer


def _tile_summer(scalar: types.Float) -> Any:
    """A compiled function that writes the sums of a tile of `scalar` into a row of `sums`."""
    pointer = pointer_to(scalar)
    size = scalar.bitwidth // 8

    @numba.njit(nogil=True, fastmath=FASTMATH)
    def sum_tile(after, before, grad, outer, stride, inner, sums, row):
        for field in range(6):
            sums[row, field] = 0.0
        # A block is one piece of a long run, or several short runs.
        runs = max(1, BLOCK // inner)
        for first in range(0, outer, runs):
            for start in range(0, inner, BLOCK):
                count = min(BLOCK, inner - start)
                ww = wd = dd = wg = gg = dg = 0.0
                for run in range(first, min(first + runs, outer)):
                    shift = (run * stride + start) * size
                    after_run = pointer(after + shift)
                    before_run = pointer(before + shift)
                    grad_run = pointer(grad + shift)
                    for i in range(count):
                        w = np.float64(before_run[i])
                        d = np.float64(after_run[i]) - w
                        g = np.float64(grad_run[i])
                        ww += w * w
                        wd += w * d
                        dd += d * d
                        wg += w * g
                        gg += g * g
                        dg += d * g
                sums[row, 0] += ww
                sums[row, 1] += wd
                sums[row, 2] += dd
                sums[row, 3] += wg
                sums[row, 4] += gg
                sums[row, 5] += dg

    return sum_tile


_sum_float32 = _tile_summer(types.float32)
_sum_float64 = _tile_summer(types.float64)


@numba.njit(nogil=True)
def sum_tiles(addresses, sizes, tiles, start, stop, sums):
    """Sum tiles `start:stop`, each into its own row of `sums`, shape (tiles, 6).

    Args:
        addresses: (3, tensors), where after, before and grad of each tensor begin in memory.
        sizes: (tensors,), the bytes of an entry: 4 or 8.
        tiles: (tiles, 6), the table of a `TileTable`.
        start: the first tile to sum.
        stop: one past the last.
        sums: (tiles, 6), overwritten.
    """
    for t in range(start, stop):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, row = tiles[t, 1] * sizes[tensor], tiles[t, 5]
        after = addresses[0, tensor] + shift
        before = addresses[1, tensor] + shift
        grad = addresses[2, tensor] + shift
        if sizes[tensor] == 4:
            _sum_float32(after, before, grad, outer, stride, inner, sums, row)
        else:
            _sum_float64(after, before, grad, outer, stride, inner, sums, row)


@numba.njit(nogil=True)
def fold_tiles(sums, first, out):
    """Add rows `first[s]:first[s + 1]` of `sums` pairwise, in place, into `out[s]`."""
    for s in range(len(first) - 1):
        low, count = first[s], first[s + 1] - first[s]
        while count > 1:
            half = (count + 1) // 2
            for i in range(count - half):
                for field in range(6):
                    sums[low + i, field] += sums[low + half + i, field]
            count = half
        for field in range(6):
            out[s, field] = sums[low, field] if count else 0.0


def compile_kernels() -> None:
    """Compile both for the types they are called with; takes time only once a process."""
    index, indices, table = types.int64, types.int64[::1], types.int64[:, ::1]
    sums = types.float64[:, ::1]
    sum_tiles.compile((table, indices, table, index, index, sums))
    fold_tiles.compile((sums, indices, sums))
