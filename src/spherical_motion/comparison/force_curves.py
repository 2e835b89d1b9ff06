"""What moves a group's norm along the run: the balance law in windows, ready to be drawn.

Source: wan2021, eq. 12, for weights that the loss does not pull and steps without momentum; here
for every weight (`theory.balance_law`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]

WINDOWS = 160
"""At most so many windows in a run, ..."""

MEMORIES = 5
"""... each of at least this many times 1/(1 - α) steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class ForceCurves:
    """The `Forces` of a group in one window after another; arrays of shape (windows,).

    `steps` is the middle of each window, and of the first and last of a stage the outer end, so
    that a change of the settings shows as a jump; `lr` is the mean learning rate.
    """

    steps: Array
    lr: Array
    inward: Array
    decay: Array
    loss: Array
    turning: Array
    growth: Array


def forces_of(motion: Motion | None, stages: Sequence[Stage]) -> ForceCurves:
    """The curves of a group; empty arrays where the balance law says nothing."""
    if motion is None or motion.no_balance is not None:
        return ForceCurves(*(np.empty(0) for _ in range(7)))
    known = motion[np.isfinite(motion.turned) & np.isfinite(motion.loss)]
    starts = _window_starts(known, stages)
    if not starts.size:
        return ForceCurves(*(np.empty(0) for _ in range(7)))

    def means(values: Array) -> Array:
        return np.add.reduceat(values, starts) / counts

    counts = np.diff(starts, append=len(known))
    size = 2.0 * means(known.gram.ww)

    def rates(part: Array) -> Array:
        return means(part / known.growth_share) / size

    decay, loss = rates(known.decay), rates(known.loss)
    told_apart = np.isfinite(decay)
    return ForceCurves(
        steps=_places(known, stages, starts, means(known.steps.astype(np.float64))),
        lr=means(known.lr),
        inward=loss + np.where(told_apart, decay, 0.0),
        decay=decay,
        loss=np.where(told_apart, loss, np.nan),
        turning=rates(known.turned),
        growth=rates(known.grown),
    )


def _window_starts(known: Motion, stages: Sequence[Stage]) -> NDArray[np.intp]:
    """Index of the first sample of each window."""
    found = [np.empty(0, np.intp)]
    for stage in stages:
        first, last = np.searchsorted(known.steps, [stage.start, stage.stop]).tolist()
        if last == first:
            continue
        memory = MEMORIES / (1.0 - float(known.momentum[first:last].max()))
        most = int(WINDOWS * (last - first) / len(known))
        count = max(min(most, int((last - first) / memory)), 1)
        found.append(np.linspace(first, last, count, endpoint=False).astype(np.intp))
    return np.concatenate(found)


def _places(
    known: Motion, stages: Sequence[Stage], starts: NDArray[np.intp], middles: Array
) -> Array:
    """Where each window is drawn."""
    places, ends = middles.copy(), np.append(starts[1:], len(known)) - 1
    first = np.searchsorted(known.steps, [stage.start for stage in stages])
    opens, closes = np.isin(starts, first), np.isin(ends + 1, [*first, len(known)])
    # A window that is a stage by itself keeps its middle.
    places[opens & ~closes] = known.steps[starts[opens & ~closes]]
    places[closes & ~opens] = known.steps[ends[closes & ~opens]]
    return places
