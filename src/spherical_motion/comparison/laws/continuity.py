"""Continuity: the weights before a step are those after the step before it.

|w_{t+1}|² = |w_t|² + 2<w, d>_t + |d_t|² holds for every optimizer, schedule and loss. It fails only
where something beside the optimizer's step wrote the weights: a copy of averaged weights, a
projection, decay by hand, a second optimizer, weights that were rolled back. A write that leaves
the norm as it is does not show.

What adds a perturbation and subtracts it again, as SAM does, leaves the rounding of both. One
rounding of an entry leaves at most u|w_i|, of either sign, so that the relative change of the norm
has a standard deviation below u·√(Σw⁴)/|w|² = u·√(3/numel) for weights of normal distribution.
Changes below a few of those, which do not add up, are put back.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import NO_ESTIMATE, Estimate, mean_ratio
from spherical_motion.theory.rounding import roundoff_of
from spherical_motion.vocabulary import Stage

Mask = NDArray[np.bool_]

EXACT = 1e-12
"""Relative error of |w|² that sums of float64 products may have, as a share of (|w| + |d|)².

Weights of every dtype up to float32 have steps that are exact in float64, so that only the sums
are rounded. 96 healthy trainings stayed below 7e-16, simulated ones in float64 below 4e-15;
averaged weights that are copied back change |w|² by 1e-2, decay by hand of 1e-6 by 2e-6."""

ROUNDINGS = 4.0
"""Put back is what changes the norm by less than this many times u/√numel. SAM by hand on float32
networks left 0.02 of it, up to 0.6 where its perturbation was as large as the weights; noise of
1e-6 of the weights makes 17 of it."""

STEPS_KEPT = 5
"""The first so many steps of an event are kept."""

FEWEST_GAPS = 10
"""Fewer gaps between bursts than this have no interval."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Continuity:
    """Who wrote the weights between the steps of one group in one stage.

    Attributes:
        pairs: neighbouring steps between which the weights were compared. Pairs between which one
            of our own tools rescaled, or the run was resumed, are not among them.
        written: pairs between which something else wrote the weights.
        steps: the steps before which it did, the first few in order.
        write: relative change of the norm by one write, the median of |change|; NaN if none.
        put_back: pairs between which the weights were changed and put back up to rounding.
        rounded: relative change of the norm by that, the median of |change|; NaN if none.
        whole: whether every step of the stage is on record, so that no write can be missed.
        resumed: the largest relative change of the norm at which the run was resumed; NaN if it was
            not. A run that goes on from its own checkpoint has 0.
        resumed_at: the step of that; -1 if it was not.
        gap: relative change of |w| a step between bursts beyond that of the steps inside them, with
            its interval; unknown where every step is on record, or the gaps are too few. Something
            that writes between bursts is a possible cause; steps that are no fair sample of all
            steps, as one step of each epoch, another.
    """

    pairs: int = 0
    written: int = 0
    steps: tuple[int, ...] = ()
    write: float = math.nan
    put_back: int = 0
    rounded: float = math.nan
    whole: bool = False
    resumed: float = math.nan
    resumed_at: int = -1
    gap: Estimate = NO_ESTIMATE


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def continuity_of(motion: Motion, stage: Stage) -> Continuity:
    """Compare the norm after each step of a stage with the norm before the next one.

    Args:
        motion: the group's whole run.
        stage: the steps to look at; its first step is compared with the step before.
    """
    here = motion.within(stage.start - 1, stage.stop)
    inside = here.steps >= stage.start
    pairs = inside & np.isfinite(here.written)
    again = pairs & resumed(here)
    pairs &= ~again
    changed = pairs & _changed(here)
    writes = pairs & written(here)
    back = changed & ~writes
    change = np.abs(here.written)
    return Continuity(
        pairs=int(pairs.sum()),
        written=int(writes.sum()),
        steps=tuple(here.steps[writes][:STEPS_KEPT].tolist()),
        write=float(np.median(change[writes])) if writes.any() else math.nan,
        put_back=int(back.sum()),
        rounded=float(np.median(change[back])) if back.any() else math.nan,
        whole=bool(inside.sum() == stage.steps) and bool(pairs[1:].all()),
        resumed=float(change[again].max()) if again.any() else math.nan,
        resumed_at=int(here.steps[again][change[again].argmax()]) if again.any() else -1,
        gap=_between_bursts(here[inside]),
    )


def written(here: Motion) -> Mask:
    """Before which samples something wrote the weights and did not put them back."""
    found = _changed(here)
    limit = ROUNDINGS * roundoff_of(here.dtype) / math.sqrt(here.group.numel)
    small = found & (np.abs(here.written) <= limit)
    # Roundings of either sign add up as a random walk does; decay by hand adds up at every step.
    adds_up = abs(float(here.written[small].sum())) > limit * math.sqrt(small.sum())
    return found if adds_up else found & ~small


def _changed(here: Motion) -> Mask:
    """Before which samples the weights are not those of before, by more than the sums' rounding."""
    gram = here.gram
    with np.errstate(divide="ignore", invalid="ignore"):
        size = (np.sqrt(gram.ww) + np.sqrt(gram.dd))[:-1] ** 2 / gram.ww[1:]
        found = np.zeros(len(here), bool)
        # The norm changes by half as much as its square.
        found[1:] = np.abs(2.0 * here.written[1:]) > EXACT * np.maximum(size, 1.0)
    return found


def resumed(here: Motion) -> Mask:
    """Which samples are the first after the run was resumed, and follow the sample before."""
    found = np.zeros(len(here), bool)
    lasted = np.diff(here.counted) + here.idle[1:]
    found[1:] = (np.diff(here.steps) == 1) & (lasted > 1)
    return found


def _between_bursts(here: Motion) -> Estimate:
    """Change of ln|w| a step in the gaps between bursts, beyond that of the measured steps."""
    gram, missing = here.gram, np.diff(here.steps) - 1
    gaps = missing > 0
    if len(here):
        # A tool that rescaled inside a gap is no stranger.
        told = np.searchsorted(here.rescaled, here.steps[1:], side="right")
        gaps &= told == np.searchsorted(here.rescaled, here.steps[:-1], side="left")
        gaps &= np.diff(here.counted) + here.idle[1:] == missing + 1  # nor is a resume
    if gaps.sum() < FEWEST_GAPS:
        return NO_ESTIMATE
    ended = gram.ww + 2.0 * gram.wd + gram.dd
    with np.errstate(divide="ignore", invalid="ignore"):
        across = 0.5 * np.log(gram.ww[1:] / ended[:-1])
        grown = 0.5 * np.log(ended / gram.ww)
    inside = 0.5 * (grown[1:] + grown[:-1])
    known = gaps & np.isfinite(across) & np.isfinite(inside)
    count = missing[known].astype(np.float64)
    return mean_ratio(across[known] - count * inside[known], count)
