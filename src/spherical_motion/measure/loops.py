"""Compiled loops over tiles: float64 sums of products, and any other work done tile by tile.

The loops are serial and release the GIL; a `Team` runs them on several threads.

Why sums of sums. The tangential part of a mostly radial step is the small difference of two of
these sums: when the radial part is 10⁴ times larger, it magnifies their rounding errors by 10⁸.
One running sum over n entries may gather n of those errors. Blocks, tiles and a pairwise fold
gather about a hundred, 10⁻¹⁴, for any values and any n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from spherical_motion.measure.compiled_cache import Compiled, compile_cached

FIELDS = 6
"""Columns of what a loop writes or reads: the products of three vectors, or six factors."""

BLOCK = 512
"""Entries summed before they are added to the sum of their tile."""

# Sums may be reordered, which is what vectorises them, and multiply-adds fused. NaN and infinity
# must pass through: hence not fastmath=True, which would promise that there are none.
FASTMATH = {"reassoc", "contract", "nsz"}

INDEX, INDICES, TABLE = types.int64, types.int64[::1], types.int64[:, ::1]
NUMBERS, MATRIX = types.float64[::1], types.float64[:, ::1]


def pointer_to(scalar: types.Number) -> Compiled:
    """A compiled function that takes an address (int64) for a pointer to `scalar`."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(scalar)(types.int64), generate

    return pointer


def tile_loop(
    vectors: int, work: Callable[[types.Float], Compiled], *, backwards: bool = False
) -> Compiled:
    """A compiled loop that does `work` on tile after tile of a `TileTable`.

    It is called as ``loop(addresses, sizes, scales, tiles, rows, numbers, start, stop)``:

    * addresses: (vectors, tensors), where each tensor of each vector begins in memory;
    * sizes: (tensors,), the bytes of an entry, 4 or 8;
    * scales: (tensors,), a number for each tensor;
    * tiles: (tiles, 5), the table of a `TileTable`;
    * rows: (tiles,), the row of `numbers` that belongs to each tile;
    * numbers: (any, FIELDS), sums that the work writes or factors that it reads;
    * start, stop: which tiles.

    Args:
        vectors: 2 or 3, the number of tensors of equal layout that the work takes.
        work: for a scalar type, a compiled function ``(first, second, third, outer, stride, inner,
            scale, own)``: addresses of the tile in each vector (`third` is 0 of two vectors), its
            shape, the scale of its tensor, its row of `numbers`.
        backwards: from `stop` down to `start`, because the last sums are in the nearest cache.
    """
    on_float32, on_float64 = work(types.float32), work(types.float64)

    @numba.njit(nogil=True)
    def loop(addresses, sizes, scales, tiles, rows, numbers, start, stop):
        for i in range(stop - start):
            t = stop - 1 - i if backwards else start + i
            tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
            shift, own, scale = tiles[t, 1] * sizes[tensor], numbers[rows[t]], scales[tensor]
            first, second = addresses[0, tensor] + shift, addresses[1, tensor] + shift
            third = addresses[2, tensor] + shift if vectors == 3 else 0
            if sizes[tensor] == 4:
                on_float32(first, second, third, outer, stride, inner, scale, own)
            else:
                on_float64(first, second, third, outer, stride, inner, scale, own)

    return loop


def sum_loop(vectors: int, *, difference: bool = False, rolls: bool = False) -> Compiled:
    """A `tile_loop` that writes <a,a>, <a,b>, <b,b> and, with c, <a,c>, <c,c>, <b,c> of each tile.

    Args:
        vectors: 2 for a and b, 3 for a, b and c.
        difference: take b + a, a and c instead, such as weights after and before a step.
        rolls: of a tensor whose scale is not 0, copy the first vector over the second, each block
            straight after it was summed, when it is in the nearest cache.
    """
    # A constant of the closure costs nothing as a switch: its other branch is not compiled.
    return tile_loop(vectors, lambda scalar: _tile_sums(scalar, vectors == 3, difference, rolls))


def gram_of_tile(scalar: types.Float) -> Compiled:
    """The work of `sum_loop(3, difference=True, rolls=True)` on one tile, as of a `tile_loop`."""
    return _tile_sums(scalar, three=True, difference=True, rolls=True)


def _tile_sums(scalar: types.Float, three: bool, difference: bool, rolls: bool) -> Compiled:
    pointer, size, roll = pointer_to(scalar), scalar.bitwidth // 8, roll_of_block(scalar)

    @numba.njit(nogil=True, fastmath=FASTMATH)
    def sum_tile(first, second, third, outer, stride, inner, scale, sums):
        for field in range(6 if three else 3):
            sums[field] = 0.0
        # A block is one piece of a long run, or several short runs.
        runs = max(1, BLOCK // inner)
        for head in range(0, outer, runs):
            for start in range(0, inner, BLOCK):
                count = min(BLOCK, inner - start)
                aa = ab = bb = ac = cc = bc = 0.0
                for run in range(head, min(head + runs, outer)):
                    shift = (run * stride + start) * size
                    first_run, second_run = pointer(first + shift), pointer(second + shift)
                    third_run = pointer(third + shift)
                    for i in range(count):
                        if difference:
                            a = np.float64(second_run[i])
                            b = np.float64(first_run[i]) - a
                        else:
                            a, b = np.float64(first_run[i]), np.float64(second_run[i])
                        aa += a * a
                        ab += a * b
                        bb += b * b
                        if three:
                            c = np.float64(third_run[i])
                            ac += a * c
                            cc += c * c
                            bc += b * c
                sums[0] += aa
                sums[1] += ab
                sums[2] += bb
                if three:
                    sums[3] += ac
                    sums[4] += cc
                    sums[5] += bc
                if rolls and scale != 0.0:
                    roll(first, second, head, min(head + runs, outer), stride, start, count)

    return sum_tile


def roll_of_block(scalar: types.Float) -> Compiled:
    """Copies `count` entries from `start` on, in each of the runs `head:end`, to another vector."""
    pointer, size = pointer_to(scalar), scalar.bitwidth // 8

    @numba.njit(nogil=True)
    def roll(source, target, head, end, stride, start, count):
        for run in range(head, end):
            shift = (run * stride + start) * size
            from_run, to_run = pointer(source + shift), pointer(target + shift)
            for i in range(count):
                to_run[i] = from_run[i]

    return roll


@numba.njit(nogil=True)
def fold_tiles(sums, first, out):
    """Add rows `first[s]:first[s + 1]` of `sums` pairwise, in place, into `out[s]`.

    `out` has as many columns as `sums`, or more, which stay as they are.
    """
    fields = sums.shape[1]
    for s in range(len(first) - 1):
        low, count = first[s], first[s + 1] - first[s]
        while count > 1:
            half = (count + 1) // 2
            for i in range(count - half):
                for field in range(fields):
                    sums[low + i, field] += sums[low + half + i, field]
            count = half
        for field in range(fields):
            out[s, field] = sums[low, field] if count else 0.0


@numba.njit(nogil=True)
def fold_and_look(sums, first, out):
    """`fold_tiles`; whether the six of each slice are finite, and its gradient is not zero."""
    fold_tiles(sums, first, out)
    plain = True
    for s in range(len(first) - 1):
        for field in range(FIELDS):
            plain &= np.isfinite(out[s, field])
        plain &= out[s, 4] > 0.0
    return plain


OF_LOOP = (TABLE, INDICES, NUMBERS, TABLE, INDICES, MATRIX, INDEX, INDEX)
OF_FOLD = (MATRIX, INDICES, MATRIX)
"""The argument types of a `tile_loop` and of `fold_tiles`."""


def compile_loops(*loops: Compiled) -> None:
    """Compile tile loops and the fold for what they are called with; once a process."""
    for loop in loops:
        loop.compile(OF_LOOP)
    compile_cached(fold_tiles, OF_FOLD, "fold_tiles")
