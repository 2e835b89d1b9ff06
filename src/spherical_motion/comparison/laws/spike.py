"""Single steps with a gradient many times its usual size, and what they did to the norm.

A spike lasts a few steps, and the steps behind it are as those before it. A change that lasts is
none (`scale_change`), unless its first steps throw the weights: where the norm jumps, it is the
training that has changed, and the large gradients behind the spike are its work.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]

LARGE = math.log(10.0)
"""A spike is so many times as large as its neighbours on both sides, in ln|g|. Where single losses
were multiplied by 20, gradients of 8 to 87 times the usual were measured. Healthy runs of a
transformer under Lion have one of 12 to 28, always at the same batch; no limit tells the two."""

SURE = 8.0
"""And it lies so many standard deviations above them, by their median deviation."""

SPAN = 20
"""Neighbours on each side."""

FEWEST = 6
"""Fewer neighbours on one side show no usual size."""

LONGEST = 5
"""A larger gradient that lasts for more samples than this is a change of size."""

MOST = 200
"""So many rises are looked at, the largest ones."""

JUMPS = 0.05
"""A norm that changes by this share in one step may have thrown the weights, ..."""

FARTHER = 20.0
"""... if that is so many times as much as in the steps before."""

NORMAL = 1.4826
"""A standard deviation over the median deviation."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """The largest spike of one group's gradient in a stage.

    Attributes:
        step: its first step.
        factor: its |g| over the usual one before it; of a certified group, of |w||g|.
        grown: relative change of the norm by that step, or by the one of the spike that moved it
            most.
        left: |g| of the steps behind the spike over that of the steps before it.
        spikes: how many there are in the stage.
    """

    step: int
    factor: float
    grown: float
    left: float
    spikes: int


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def spike_of(motion: Motion, stage: Stage) -> Spike | None:
    """The largest spike of the gradient in a stage; None if there is none.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
    """
    here = motion.within(stage.start, stage.stop)
    square = here.gram.gg * (here.gram.ww if here.group.kind == "scale" else 1.0)
    here = here[np.isfinite(square) & (square > 0)]
    size = 0.5 * np.log(square[np.isfinite(square) & (square > 0)])
    rises = np.flatnonzero(np.diff(size) >= LARGE / 2.0) + 1
    if not rises.size:
        return None
    rises = np.sort(rises[np.argsort(size[rises] - size[rises - 1])[-MOST:]])
    rises = rises[may_spike(size)[rises - 1]]
    found: list[Spike] = []
    stop = 0
    for at in rises.tolist():
        if at >= stop and (seen := _spike_at(here, size, at)) is not None:
            spike, stop = seen
            found.append(spike)
    if not found:
        return None
    return dataclasses.replace(max(found, key=lambda spike: spike.factor), spikes=len(found))


def may_spike(size: Array) -> NDArray[np.bool_]:
    """Before which samples but the first a spike may begin: none begins elsewhere.

    It rises at once, and to `LARGE` above the least of the samples before it.

    Args:
        size: ln of the gradient's size, steps on the last axis.
    """
    rises = np.diff(size) >= LARGE / 2.0
    if not rises.any():
        return rises
    lowest, highest = size[..., :-1].copy(), size[..., 1:].copy()
    for back in range(1, min(SPAN, lowest.shape[-1])):
        lowest[..., back:] = np.minimum(lowest[..., back:], size[..., : -1 - back])
    for ahead in range(1, min(LONGEST + 1, highest.shape[-1])):
        highest[..., :-ahead] = np.maximum(highest[..., :-ahead], size[..., 1 + ahead :])
    return rises & (highest - lowest >= LARGE)


def _spike_at(here: Motion, size: Array, at: int) -> tuple[Spike, int] | None:
    """The spike that begins at a sample and the sample behind it; None if there is none."""
    before = size[max(at - SPAN, 0) : at]
    usual = float(np.median(before))
    stop = at
    while stop < size.size and stop - at <= LONGEST and size[stop] - usual >= LARGE / 2.0:
        stop += 1
    behind = size[stop : stop + SPAN]
    stop = max(stop, at + 1)
    top = at + int(np.argmax(size[at:stop]))
    if min(before.size, behind.size) < FEWEST:
        return None
    left = float(np.median(behind))
    away = np.concatenate([before - usual, behind - left])
    least = max(LARGE, SURE * NORMAL * float(np.median(np.abs(away))))
    gram = here.gram[max(at - SPAN, 0) : stop]
    grown = np.sqrt((gram.ww + 2.0 * gram.wd + gram.dd) / gram.ww) - 1.0
    earlier, grown = grown[: -(stop - at)], grown[-(stop - at) :]
    thrown = np.abs(grown).max() > max(JUMPS, FARTHER * float(np.median(np.abs(earlier))))
    if size[top] - (usual if thrown else max(usual, left)) < least:
        return None
    spike = Spike(
        step=int(here.steps[at]),
        factor=math.exp(size[top] - usual),
        grown=float(grown[np.argmax(np.abs(grown))]),
        left=math.exp(left - usual),
        spikes=1,
    )
    return spike, stop
