"""The points of a long series that a screen can tell apart."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def points_to_keep(
    steps: NDArray[np.integer], values: NDArray[np.number], buckets: int, breaks: Iterable[int] = ()
) -> NDArray[np.intp]:
    """Indices of the points that draw the same line in `buckets` columns of pixels.

    The range of steps is cut into equal buckets. Of each, the first smallest and the first
    largest finite value stay, so no extreme is lost; a bucket without any finite value leaves one
    point, so the line breaks there. The first and the last point of the series always stay.
    Only the order of the values counts, so the logarithm of a series keeps the same points.

    Args:
        steps: increasing step numbers, shape (n,).
        values: shape (n,); NaN and ±inf are gaps.
        buckets: at least 1. A series of at most `2 * buckets` points is kept whole.
        breaks: steps before and at which a point must stay, so that a jump there stays steep.

    Returns:
        Increasing indices into `steps`; at most two a bucket, two a break, and the two ends.

    This is M4 (Jugel et al., VLDB 2014) without the first and last point of each bucket: at one
    bucket a pixel these move the line by less than its width.

    >>> import numpy as np
    >>> points_to_keep(np.arange(8), np.array([0.0, 1, 9, 2, 1, 1, 0, 1]), buckets=2)
    array([0, 2, 4, 6, 7])
    """
    n = len(steps)
    if n <= 2 * buckets:
        return np.arange(n)
    edges = np.linspace(steps[0], steps[-1], buckets + 1)[1:-1]
    bucket = np.searchsorted(edges, steps, side="right")
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    bucket = np.repeat(np.arange(len(starts)), np.diff(starts, append=n))

    finite = np.isfinite(values)
    lowest = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    highest = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    empty = ~np.logical_or.reduceat(finite, starts)
    after_breaks = np.searchsorted(steps, list(breaks))
    kept = [
        np.array([0, n - 1]),
        np.clip(after_breaks - 1, 0, n - 1),
        np.clip(after_breaks, 0, n - 1),
        _first_of_each(bucket, finite & (values == lowest[bucket])),
        _first_of_each(bucket, finite & (values == highest[bucket])),
        starts[empty],
    ]
    return np.unique(np.concatenate(kept))


def _first_of_each(bucket: NDArray[np.intp], marked: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Position of the first marked point of each bucket that has one."""
    positions = np.flatnonzero(marked)
    return positions[np.diff(bucket[positions], prepend=-1) != 0]


def is_lone(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which values are finite without a finite neighbour: a line does not show them.

    >>> import numpy as np
    >>> is_lone(np.array([1.0, np.nan, 2, 3]))
    array([ True, False, False, False])
    """
    finite = np.concatenate([[False], np.isfinite(values), [False]])
    return finite[1:-1] & ~finite[:-2] & ~finite[2:]
