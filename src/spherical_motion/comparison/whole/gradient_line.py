"""`scale_changes` of motions that are shown one after another and not kept.

The line of the mean ln|g| over all groups is a sum that grows group by group. What each group did
at a gap of it takes a second look at the motions; most runs have none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.laws.scale_change import (
    ScaleChange,
    around,
    change_over,
    common_change,
    gaps_in,
    gradient_sizes,
    settings_changed,
)
from spherical_motion.comparison.motion import Motion

Array = NDArray[np.float64]


def places_of(own: NDArray[np.int64], steps: NDArray[np.int64]) -> slice | NDArray[np.intp]:
    """Where steps of a group stand among those of its run; both increase.

    >>> steps = np.array([3, 5, 8, 9])
    >>> places_of(steps[1:3], steps), places_of(steps[::2], steps)
    (slice(1, 3, None), array([0, 2]))
    """
    if not own.size:
        return slice(0, 0)
    start, last = np.searchsorted(steps, [own[0], own[-1]]).tolist()
    if last + 1 - start == own.size:
        return slice(start, last + 1)
    return np.searchsorted(steps, own)


class GradientLine:
    """The size of the gradients of all groups along a run.

    Args:
        steps: the recorded steps of the run, increasing.
    """

    def __init__(self, steps: NDArray[np.int64]) -> None:
        self._steps = steps
        self._moved, self._count = np.zeros(steps.size), np.zeros(steps.size)
        self._changed, self._seen = np.zeros(steps.size, bool), np.zeros(steps.size, bool)
        self._changes: dict[int, list[float]] = {}

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def add(self, motion: Motion) -> None:
        """One more group."""
        if not len(motion):
            return
        at, size = gradient_sizes(motion, self._steps)
        self._moved[at[1:]] += np.diff(size)
        self._count[at[1:]] += 1.0
        self._set(motion)

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def add_all(self, motion: Motion, squares: Array) -> None:
        """Several groups with a gradient at each of their steps.

        Args:
            motion: has their steps and settings.
            squares: the square of the gradient's size, shape (groups, steps).
        """
        place = places_of(motion.steps[1:], self._steps)
        for row in np.diff(0.5 * np.log(squares)):
            self._moved[place] += row
        self._count[place] += float(len(squares))
        self._set(motion)

    def _set(self, motion: Motion) -> None:
        self._changed |= settings_changed(motion, self._steps)
        self._seen[places_of(motion.steps, self._steps)] = True

    def gaps(self) -> tuple[int, ...]:
        """Where in `steps` the line has a gap that no setting explains."""
        steps, at = self.steps, np.flatnonzero(self._seen)
        if not steps.size:
            return ()
        moved, count = self._moved[at], self._count[at]
        with np.errstate(invalid="ignore"):
            line = np.cumsum(np.where(count > 0, moved / np.maximum(count, 1.0), 0.0))
        return tuple(gaps_in(line, self._changed[at]))

    @property
    def steps(self) -> NDArray[np.int64]:
        """The steps at which any group was measured."""
        return self._steps[self._seen]

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def look_again(self, motion: Motion, gaps: tuple[int, ...]) -> None:
        """What a group did at each gap."""
        steps = self.steps
        for at in gaps if len(motion) else ():
            change = change_over(motion, steps, *around(steps, at))
            if change is not None:
                self._changes.setdefault(at, []).append(change)

    def changes(self, gaps: tuple[int, ...]) -> tuple[ScaleChange, ...]:
        """The gaps that nearly all groups share, once all were looked at again."""
        steps = self.steps
        found = (common_change(int(steps[at]), self._changes.get(at, ())) for at in gaps)
        return tuple(change for change in found if change is not None)
