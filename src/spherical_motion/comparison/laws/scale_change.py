"""Where the gradient's size changed at once in all groups: a loss scale, another batch size.

The mean over the groups of ln|g| is a noisy line. A change at once is a gap between the straight
lines through the samples before and behind it; a slow change is a slope, which has no gap.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion

Array = NDArray[np.float64]

SPAN = 20
"""Samples on each side that show the change of a single group."""

SURE = {20: 9.0, 60: 6.5}
"""Lines through so many samples on each side are compared, and their gap must be this many times
its standard error. In 1,000,000 samples of white, heavy-tailed and correlated noise none was that
large; a change by 3 is found in 97 of 100 lines whose samples vary by 30%, by 2 in 41."""

LEAST = math.log(2.0)
"""Smallest change of ln|g| that counts. In 1 of 120 healthy trainings, of a net without norm
layers, all gradients fell by 0.64 within two steps."""

SHORT = 6
"""Lines through so many samples on each side must have the gap, too; those of a wave have none."""

AT_ONCE = 0.6
"""Share of the gap that the short lines must have."""

MOST_CORRELATED_SAMPLES = 0.8
"""A correlation of neighbouring samples counts as no larger than this."""

MOST_GROUPS = 0.8
"""Share of the groups that must change in the same direction, by at least half as much."""

CHANGED = 1.1
"""A learning rate, decay or momentum that changes by this factor at once explains what follows."""


ALIKE = 0.35
"""The groups' ln factors may differ by this share of their median. A loss scale and another batch
size have 0.01 to 0.2; a training that was thrown out of its course had 0.5."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScaleChange:
    """The gradients of nearly all groups became larger or smaller from one step to the next.

    Attributes:
        step: the first step with the new size.
        factor: new size over old size of the gradient's norm, the median over the groups.
        groups: how many groups changed by it in this direction.
        known: how many groups have a gradient on both sides.
        spread: how much the groups' factors differ, half of the distance of the 16% and 84%
            quantiles of ln factor; near 0 for a loss scale.
    """

    step: int
    factor: float
    groups: int
    known: int
    spread: float


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def scale_changes(motions: Iterable[Motion]) -> tuple[ScaleChange, ...]:
    """Steps at which the size of the gradient changed in all groups at once, in order.

    A slow change and one that follows a change of the settings are not among them. The size of a
    certified group's gradient is taken times |w|, so that a rescaling of the weights is none.

    Args:
        motions: the whole runs of all groups.
    """
    everyone = [motion for motion in motions if len(motion)]
    if not everyone:
        return ()
    steps = np.unique(np.concatenate(_distinct([motion.steps for motion in everyone])))
    moved, count = np.zeros(steps.size), np.zeros(steps.size)
    changed = np.zeros(steps.size, bool)
    for motion in everyone:
        at, size = gradient_sizes(motion, steps)
        moved[at[1:]] += np.diff(size)
        count[at[1:]] += 1.0
        changed |= settings_changed(motion, steps)
    with np.errstate(invalid="ignore"):
        line = np.cumsum(np.where(count > 0, moved / np.maximum(count, 1.0), 0.0))
    found = (_change_of(everyone, steps, at) for at in gaps_in(line, changed))
    return tuple(change for change in found if change is not None)


def _distinct(arrays: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """The arrays without those that repeat the one before, as those of most groups do."""
    kept = [arrays[0]]
    for array in arrays[1:]:
        if not np.array_equal(array, kept[-1]):
            kept.append(array)
    return kept


def gradient_sizes(motion: Motion, steps: NDArray[np.int64]) -> tuple[NDArray[np.intp], Array]:
    """(places in `steps`, ln of the gradient's size there) where a group has a gradient."""
    square = motion.gram.gg * (motion.gram.ww if motion.group.kind == "scale" else 1.0)
    known = np.isfinite(square) & (square > 0)
    return np.searchsorted(steps, motion.steps[known]), 0.5 * np.log(square[known])


def settings_changed(motion: Motion, steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """At which steps the settings of a group changed at once."""
    found = np.zeros(motion.steps.size, bool)
    for values in (motion.lr, motion.weight_decay, 1.0 - motion.momentum):
        low, high = np.minimum(values[1:], values[:-1]), np.maximum(values[1:], values[:-1])
        found[1:] |= high > CHANGED * low
    everywhere = np.zeros(steps.size, bool)
    everywhere[np.searchsorted(steps, motion.steps[found])] = True
    return everywhere


def gaps_in(line: Array, changed: NDArray[np.bool_]) -> list[int]:
    """Indices of the samples in front of which the line has a gap that no setting explains."""
    sure = np.zeros(line.size)
    for span, sure_from in SURE.items():
        if line.size < 2 * span:
            continue
        gap, error = _lines_apart(line, span)
        short, _ = _lines_apart(line, SHORT)
        short = short[span - SHORT : span - SHORT + gap.size]
        fits = (np.abs(gap) >= LEAST) & (np.abs(gap) >= sure_from * error)
        fits &= short * np.sign(gap) >= AT_ONCE * np.abs(gap)
        recent = np.convolve(changed, np.ones(2 * span))[: line.size] > 0.5
        fits &= ~recent[span : span + gap.size]
        here = slice(span, span + gap.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            sure[here] = np.maximum(sure[here], np.where(fits, np.abs(gap) / error, 0.0))
    found: list[int] = []
    while sure.any():  # once a gap
        best = int(np.argmax(sure))
        found.append(best)
        sure[max(best - SPAN, 0) : best + SPAN + 1] = 0.0
    return sorted(found)


def _lines_apart(line: Array, span: int) -> tuple[Array, Array]:
    """(gap, its standard error) in front of sample `span` and each one after it.

    The gap between straight lines through `span` samples on each side, half a sample before it.
    """
    windows = np.lib.stride_tricks.sliding_window_view(line - line.mean(), span)
    place = np.arange(span) - (span - 1) / 2.0
    slope = windows @ (place / (place @ place))
    middle = windows.mean(axis=1)
    square = np.einsum("ij,ij->i", windows, windows) / span
    rest = np.maximum(square - middle**2 - slope**2 * (place @ place) / span, 0.0)
    moved = np.convolve(np.diff(line) ** 2, np.ones(span - 1), mode="valid") / (span - 1.0)
    before, behind = slice(0, line.size - 2 * span + 1), slice(span, None)
    gap = (middle - span / 2.0 * slope)[behind] - (middle + span / 2.0 * slope)[before]
    variance, moved = rest[behind] + rest[before], moved[behind] + moved[before]
    with np.errstate(divide="ignore", invalid="ignore"):
        lag1 = np.where(variance > 0, 1.0 - moved / (2.0 * variance), 0.0)
    lag1 = np.clip(lag1, 0.0, MOST_CORRELATED_SAMPLES)
    # At its end a line has 4/span of the variance of a sample.
    error = np.sqrt(variance * 4.0 / (span - 2.0) * (1.0 + lag1) / (1.0 - lag1))
    return gap, np.maximum(error, 1e-12)


def surest_gap(before: Array, behind: Array) -> float:
    """The gap between what lies before and behind, by the lines that show it best.

    Long lines, unless a training that blew up bends them.
    """
    found = []
    for span in sorted({SHORT, min(before.size, behind.size)}):
        line = np.concatenate([before[-span:], behind[:span]])
        (gap,), (error,) = _lines_apart(line, span)
        found.append((float(error), float(gap)))
    return min(found)[1]


def _change_of(motions: Sequence[Motion], steps: NDArray[np.int64], at: int) -> ScaleChange | None:
    """What each group's gradient did at a gap; None if they did not do the same."""
    first, step, stop = around(steps, at)
    changes = [change_over(motion, steps, first, step, stop) for motion in motions]
    return common_change(step, [change for change in changes if change is not None])


def around(steps: NDArray[np.int64], at: int) -> tuple[int, int, int]:
    """The first step looked at, the step of a gap, and the one after the last looked at."""
    last = int(steps[min(at + SPAN, steps.size) - 1])
    return int(steps[max(at - SPAN, 0)]), int(steps[at]), last + 1


def change_over(
    motion: Motion, steps: NDArray[np.int64], first: int, step: int, stop: int
) -> float | None:
    """By how much ln of one group's gradient changed at a step; None if too few samples tell."""
    before, behind = (
        gradient_sizes(part, steps)[1]
        for part in (motion.within(first, step), motion.within(step, stop))
    )
    return surest_gap(before, behind) if min(before.size, behind.size) >= SHORT else None


def common_change(step: int, changes: Sequence[float]) -> ScaleChange | None:
    """The change that nearly all groups share; None if they did not do the same."""
    if not changes:
        return None
    moved = np.array(changes)
    middle = float(np.median(moved))
    alike = moved * np.sign(middle) >= 0.5 * abs(middle)
    if abs(middle) < LEAST or alike.mean() < MOST_GROUPS:
        return None
    low, high = np.quantile(moved, (0.16, 0.84)).tolist()
    if (high - low) / 2.0 > ALIKE * abs(middle):
        return None
    return ScaleChange(
        step=step,
        factor=float(np.exp(middle)),
        groups=int(alike.sum()),
        known=moved.size,
        spread=(high - low) / 2.0,
    )
