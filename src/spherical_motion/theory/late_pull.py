"""Which steps count: those with a gradient, those after the start-up, and the late ones.

The loss's pull changes as the norm does, so a mean over a whole stage tells what was, and may even
have the other sign. What asks for the norm of now, or for what comes next, takes the late steps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.checks import Array
from spherical_motion.estimates import Estimate, slow_mean_ratio
from spherical_motion.vocabulary.gram import Gram

STARTING_MEMORIES = 5
"""A stage's first steps are left out, this many times 1/(1 - α) of them."""

LATEST = 4
"""Late is the last of so many parts of the judged steps, ..."""

FEWEST_LATE = 50
"""... but at least so many steps, ..."""

MEMORIES_LATE = 10
"""... and at least this many times 1/(1 - α)."""

FEWEST_STOPPED = 10
"""A gradient that was away for fewer steps than this has not stopped."""


def start_up(momentum: Array) -> float:
    """How many steps at the start of a stage are still moved by what came before it.

    >>> round(start_up(np.array([0.9, 0.8])))
    50
    """
    return STARTING_MEMORIES / (1.0 - float(np.max(momentum)))


def late(momentum: Array) -> slice:
    """Which of the judged steps are late, by their momentum, shape (steps,).

    >>> late(np.full(1000, 0.9)), late(np.full(40, 0.9))
    (slice(750, 1000, None), slice(0, 40, None))
    """
    count = len(momentum)
    if not count:
        return slice(0, 0)
    memories = MEMORIES_LATE / (1.0 - float(np.max(momentum)))
    fewest = max(FEWEST_LATE, math.ceil(memories - 1e-6))
    return slice(max(count - max(fewest, count // LATEST), 0), count)


def idle(gram: Gram) -> NDArray[np.bool_]:
    """Steps at which the group had no gradient and did not move.

    >>> idle(Gram([1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [np.nan, 0.0], [np.nan, 0.0], [np.nan, 0.0]))
    array([ True, False])
    """
    return np.isnan(gram.wg) & np.isnan(gram.wp) & (gram.dd == 0.0)


def stopped_for(steps: NDArray[np.int64], skipped: NDArray[np.bool_]) -> int:
    """How many samples come after the last gradient; 0 if more gradients may follow.

    A gradient that comes rarely has stopped if it stays away twice as long as ever before.

    Args:
        steps: step numbers of a group's samples, in order, shape (samples,).
        skipped: which of them are idle.

    >>> steps = np.arange(100)
    >>> stopped_for(steps, steps >= 70), stopped_for(steps, steps % 60 >= 1)
    (30, 0)
    """
    moving = np.flatnonzero(~skipped)
    if not len(moving):
        return 0
    away = np.diff(steps[moving])[np.diff(moving) > 1]
    if steps[-1] - steps[moving[-1]] < max(FEWEST_STOPPED, 2 * away.max(initial=0)):
        return 0
    return len(steps) - 1 - int(moving[-1])


def counted_by_moves(steps: NDArray[np.int64], skipped: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Step numbers that leave idle steps out, so that the steps around them are neighbours.

    Args:
        steps: step numbers, of the shape of `skipped`, steps first.
        skipped: which of them are idle.

    >>> counted_by_moves(np.array([4, 5, 6]), np.array([False, True, False]))
    array([4, 4, 5])
    """
    return steps - np.cumsum(skipped, axis=0)


def mean_pull(pull: Array, lr: Array) -> Estimate:
    """Σηp/Ση over the steps whose pull is known, with its 95% interval.

    Args:
        pull: p of each step (`sphere.pull`), in order, shape (steps,).
        lr: learning rate of these steps.

    >>> mean_pull(np.array([1.0, 2.0, np.nan]), np.array([0.25, 0.75, 0.5])).value
    1.75
    """
    known = np.isfinite(pull)
    return slow_mean_ratio(lr[known] * pull[known], lr[known])
