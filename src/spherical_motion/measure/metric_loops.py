"""Compiled loops over tiles for the two products of an optimizer's preconditioner.

`sum_preconditioned` sums the six products and wp in one pass over memory. P is computed in the
tensor's own precision, as the optimizer does: square root and division of float32 are three times
as fast as of float64. All products and sums are float64.

`sum_changes` sums ws. P - P_before is a small difference, so all of it is float64.
"""

from __future__ import annotations

import numba
import numpy as np
from numba import types

from spherical_motion.measure.compiled_cache import Compiled, compile_cached
from spherical_motion.measure.loops import (
    BLOCK,
    FASTMATH,
    FIELDS,
    INDEX,
    INDICES,
    MATRIX,
    NUMBERS,
    TABLE,
    gram_of_tile,
    pointer_to,
    roll_of_block,
)

WP, WS = FIELDS, FIELDS + 1
"""Columns of the two products."""


def _preconditioned_tile(scalar: types.Float) -> Compiled:
    """The six products and wp of one tile."""
    pointer, size, roll_block = pointer_to(scalar), scalar.bitwidth // 8, roll_of_block(scalar)
    real = np.float32 if size == 4 else np.float64

    # Without error_model="numpy" a check for division by zero would keep the loop from vectorising.
    @numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
    def sum_tile(after, before, grad, state, outer, stride, inner, coefficients, roll, sums):
        root, linear = real(coefficients[1]), real(coefficients[2])
        eps, decay = real(coefficients[3]), real(coefficients[4])
        for field in range(FIELDS + 1):
            sums[field] = 0.0
        # A block is one piece of a long run, or several short runs.
        runs = max(1, BLOCK // inner)
        for head in range(0, outer, runs):
            for start in range(0, inner, BLOCK):
                count = min(BLOCK, inner - start)
                ww = wd = dd = wg = gg = dg = wp = 0.0
                for run in range(head, min(head + runs, outer)):
                    shift = (run * stride + start) * size
                    a, b = pointer(after + shift), pointer(before + shift)
                    c, v = pointer(grad + shift), pointer(state + shift)
                    for i in range(count):
                        w, g = np.float64(b[i]), np.float64(c[i])
                        d = np.float64(a[i]) - w
                        # x first, divided second, scaled last: where x is 0 so is Px, even if
                        # eps is so small that P itself would be infinite.
                        x = c[i] + decay * b[i]
                        # Not 0·v, which is no number where v is infinite.
                        below = root * np.sqrt(v[i]) if root else linear * v[i]
                        px = x / (below + eps)
                        ww += w * w
                        wd += w * d
                        dd += d * d
                        wg += w * g
                        gg += g * g
                        dg += d * g
                        wp += w * np.float64(px)
                sums[0] += ww
                sums[1] += wd
                sums[2] += dd
                sums[3] += wg
                sums[4] += gg
                sums[5] += dg
                sums[6] += wp
                if roll != 0.0:
                    end = min(head + runs, outer)
                    roll_block(after, before, head, end, stride, start, count)
        sums[6] *= coefficients[0]

    return sum_tile


def _changed_tile(scalar: types.Float) -> Compiled:
    """ws of one tile, added to what the loop above left in the other columns."""
    pointer, size = pointer_to(scalar), scalar.bitwidth // 8

    @numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")
    def sum_tile(before, state, old_state, average, outer, stride, inner, now, old, sums):
        sums[WS] = 0.0
        runs = max(1, BLOCK // inner)
        for head in range(0, outer, runs):
            for start in range(0, inner, BLOCK):
                count = min(BLOCK, inner - start)
                ws = 0.0
                for run in range(head, min(head + runs, outer)):
                    shift = (run * stride + start) * size
                    b, v = pointer(before + shift), pointer(state + shift)
                    u, m = pointer(old_state + shift), pointer(average + shift)
                    for i in range(count):
                        wb = np.float64(b[i]) * np.float64(m[i])
                        p, q = np.float64(v[i]), np.float64(u[i])
                        # Of a flat P anything may stand in for v, also negative numbers.
                        p = now[1] * np.sqrt(p) if now[1] else now[2] * p
                        q = old[1] * np.sqrt(q) if old[1] else old[2] * q
                        ws += wb * (now[0] / (p + now[3])) - wb * (old[0] / (q + old[3]))
                sums[WS] += ws

    return sum_tile


_on_float32, _on_float64 = (_preconditioned_tile(t) for t in (types.float32, types.float64))
_plain_float32, _plain_float64 = (gram_of_tile(t) for t in (types.float32, types.float64))
_changed_float32, _changed_float64 = (_changed_tile(t) for t in (types.float32, types.float64))


@numba.njit(nogil=True, error_model="numpy")
def sum_preconditioned(addresses, sizes, coefficients, rolls, tiles, rows, sums, start, stop):
    """The first seven columns of `sums` for tiles `start:stop`.

    Arguments as of a `tile_loop`; addresses are those of the weights after and before the step,
    the gradient and v; coefficients (tensors, 5) those of a `Preconditioner`, NaN for a tensor
    without one, whose wp is NaN. A flat P needs no v: wp follows from the six. Where `rolls`
    (tensors,) is not 0, the weights after the step are copied over those before it.
    """
    for t in range(start, stop):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, own, of_tensor = tiles[t, 1] * sizes[tensor], sums[rows[t]], coefficients[tensor]
        a, b = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        c, v = addresses[2, tensor] + shift, addresses[3, tensor] + shift
        scale, root, linear, roll = of_tensor[0], of_tensor[1], of_tensor[2], rolls[tensor]
        if np.isnan(scale) or (root == 0.0 and linear == 0.0):
            if sizes[tensor] == 4:
                _plain_float32(a, b, c, outer, stride, inner, roll, own)
            else:
                _plain_float64(a, b, c, outer, stride, inner, roll, own)
            own[WP] = scale / of_tensor[3] * (own[3] + of_tensor[4] * own[0])
        elif sizes[tensor] == 4:
            _on_float32(a, b, c, v, outer, stride, inner, of_tensor, roll, own)
        else:
            _on_float64(a, b, c, v, outer, stride, inner, of_tensor, roll, own)


@numba.njit(nogil=True)
def sum_changes(addresses, sizes, coefficients, earlier, tiles, rows, sums, start, stop):
    """The last column of `sums` for tiles `start:stop`.

    Addresses are those of the weights before the step, v after it, v before it and the average
    before it; `coefficients` and `earlier` (tensors, 5) those of the two `Preconditioner`s. A
    tensor without one of them is left out.
    """
    for t in range(start, stop):
        tensor, outer, stride, inner = tiles[t, 0], tiles[t, 2], tiles[t, 3], tiles[t, 4]
        shift, own = tiles[t, 1] * sizes[tensor], sums[rows[t]]
        now, old = coefficients[tensor], earlier[tensor]
        if np.isnan(now[0]) or np.isnan(old[0]):
            continue
        b, v = addresses[0, tensor] + shift, addresses[1, tensor] + shift
        u, m = addresses[2, tensor] + shift, addresses[3, tensor] + shift
        if sizes[tensor] == 4:
            _changed_float32(b, v, u, m, outer, stride, inner, now, old, own)
        else:
            _changed_float64(b, v, u, m, outer, stride, inner, now, old, own)


def compile_preconditioned() -> None:
    """Compile the loop of the seven products; once a process."""
    own = (TABLE, INDICES, MATRIX, NUMBERS, TABLE, INDICES, MATRIX, INDEX, INDEX)
    compile_cached(sum_preconditioned, own, "sum_preconditioned")


def compile_changes() -> None:
    """Compile the loop of the eighth product; once a process."""
    own = (TABLE, INDICES, MATRIX, MATRIX, TABLE, INDICES, MATRIX, INDEX, INDEX)
    compile_cached(sum_changes, own, "sum_changes")
