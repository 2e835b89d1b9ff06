"""The compiled loops over steps; the compiler vectorises the inner loop over settings.

Each kernel advances all settings over a piece of steps, in place, and stores norm, drive and
angle at every `every`-th step. `alive` becomes 0 where a squared norm left (0, ∞). A drive that
all settings share has a loop of its own, which reads it once a step: one loop for both would not
vectorise and take up to four times as long.
"""

from __future__ import annotations

import math
from typing import Any

import numba

# Not parallel: the caller decides about threads. Not cached: an install may be read-only.
# The numpy error model omits the test for division by zero, which would stop vectorisation.
compiled: Any = numba.njit(nogil=True, error_model="numpy")


@compiled
def step_plain(x, keep, gain, lr, shrink, drive, start, every, alive, norms, drives, angles):
    """x ← keep·x + gain·L/x, for x = |w|² of SGD; its angle has tangent η√L / ((1 - ηλ)x)."""
    settings, shared = x.size, drive.shape[1] == 1
    for i in range(drive.shape[0]):
        if (start + i) % every == 0:
            row = (start + i) // every
            for j in range(settings):
                push = drive[i, 0 if shared else j]
                norms[row, j] = x[j]
                drives[row, j] = push
                angles[row, j] = math.atan2(lr[j] * math.sqrt(push), shrink[j] * x[j])
        if shared:
            push = drive[i, 0]
            for j in range(settings):
                x[j] = keep[j] * x[j] + gain[j] * push / x[j]
                alive[j] = alive[j] if 0.0 < x[j] < math.inf else 0.0
        else:
            for j in range(settings):
                x[j] = keep[j] * x[j] + gain[j] * drive[i, j] / x[j]
                alive[j] = alive[j] if 0.0 < x[j] < math.inf else 0.0


@compiled
def step_momentum(x, b, v, lr, decay, momentum, drive, start, every, alive, norms, drives, angles):
    """Heavy-ball steps of x = |w|², b = <w, v>, v = |v|² (`_heavy_ball`)."""
    settings, shared = x.size, drive.shape[1] == 1
    for i in range(drive.shape[0]):
        if (start + i) % every == 0:
            row = (start + i) // every
            for j in range(settings):
                push = drive[i, 0 if shared else j]
                norms[row, j] = x[j]
                drives[row, j] = push
                angles[row, j] = _angle(x[j], b[j], v[j], push, lr[j], decay[j], momentum[j])
        if shared:
            push = drive[i, 0]
            for j in range(settings):
                x[j], b[j], v[j] = _heavy_ball(x[j], b[j], v[j], push, lr[j], decay[j], momentum[j])
                alive[j] = alive[j] if 0.0 < x[j] < math.inf else 0.0
        else:
            for j in range(settings):
                x[j], b[j], v[j] = _heavy_ball(
                    x[j], b[j], v[j], drive[i, j], lr[j], decay[j], momentum[j]
                )
                alive[j] = alive[j] if 0.0 < x[j] < math.inf else 0.0


@compiled
def step_scheduled(x, b, v, lr, decay, momentum, drive, start, every, alive, norms, drives, angles):
    """As `step_momentum`, with lr, decay and momentum for each step, not for each setting."""
    settings, shared = x.size, drive.shape[1] == 1
    for i in range(drive.shape[0]):
        t = start + i
        for j in range(settings):
            push = drive[i, 0 if shared else j]
            if t % every == 0:
                norms[t // every, j] = x[j]
                drives[t // every, j] = push
                angles[t // every, j] = _angle(x[j], b[j], v[j], push, lr[t], decay[t], momentum[t])
            x[j], b[j], v[j] = _heavy_ball(x[j], b[j], v[j], push, lr[t], decay[t], momentum[t])
            alive[j] = alive[j] if 0.0 < x[j] < math.inf else 0.0


@compiled
def _heavy_ball(x, b, v, push, lr, decay, momentum):
    """(|w|², <w, v>, |v|²) after v ← αv + g + λw, w ← w - ηv.

    `push` = h̃ = |w|²(|g|² + 2α<v, g>) holds the cross terms of g in |αv + g + λw|², since g is
    orthogonal to w. The map equals wan2021's eq. 186; these variables keep the digits of a small
    step and their meaning when the learning rate changes.
    """
    along = momentum * b + decay * x
    v = momentum * momentum * v + push / x + decay * (decay * x + 2.0 * momentum * b)
    return x - lr * (2.0 * along - lr * v), along - lr * v, v


@compiled
def _angle(x, b, v, push, lr, decay, momentum):
    """Angle of the step that `_heavy_ball` makes from here."""
    along = momentum * b + decay * x
    v = momentum * momentum * v + push / x + decay * (decay * x + 2.0 * momentum * b)
    across = max(v - along * along / x, 0.0)
    return math.atan2(lr * math.sqrt(across * x), x - lr * along)
