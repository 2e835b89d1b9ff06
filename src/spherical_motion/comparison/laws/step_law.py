"""The step law of SGD: each step is what the settings make of this gradient and of the step before.

The law of motion (`theory.motion`) is an identity in the recorded products at every pair of
neighbouring steps, under any schedule. What a healthy run leaves is rounding of the weights.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.laws.settings_fit import FEWEST_TO_FIT, Fit, fit_settings
from spherical_motion.comparison.laws.tested import (
    Mixed,
    Tested,
    tested_steps,
    too_fine,
    why_untested,
)
from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

FAILS = 1e-4
"""A step fails if more than this share of the law's largest term is left, and more than rounding
explains. Coefficients such as α and ηλ are rounded to float32, which leaves 1e-7."""

DEVIATIONS_OF_ROUNDING = 12.0
"""Rounding explains up to this many standard deviations of what weights of normal distribution
leave, and never more than its bound. Weights of which a few are large leave up to three times as
much, and millions of steps are tested."""

STEPS_KEPT = 5
"""So many steps are named."""

FEWEST_IN_A_ROW = 3
"""So many failing steps make a stretch; fewer are single ones."""


FITTED = 2_000
"""So many steps of a stretch are fitted; the settings are known to five digits after fifty."""

NO_PAIR = "no step and its predecessor were both recorded"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepLaw:
    """The law of motion of one group in one stage; residuals are shares of the law's largest term.

    Pairs between which the weights were written are left out: `Continuity` has them.

    Attributes:
        pairs: steps at which the law was tested.
        median: of the residuals over all of them.
        worst: the largest residual of a step that fails; NaN if none does. A step whose residual
            rounding explains may have a larger one.
        allowed: the residual from which on a step fails, the median over the steps.
        failing: steps that fail.
        first, last: the stretch in which most steps fail; None if there is none.
        stretch: steps tested in that stretch.
        broken, broken_allowed: medians of the residual and of what is allowed over its failing
            steps.
        spikes: failing steps outside of it.
        spike_steps: the first few of them.
        fit: the settings with which the steps of the stretch were made; None if nothing fails in a
            row, or too few steps do.
        unknown: why the law was not tested; empty if it was.
    """

    pairs: int = 0
    median: float = math.nan
    worst: float = math.nan
    allowed: float = math.nan
    failing: int = 0
    first: int | None = None
    last: int | None = None
    stretch: int = 0
    broken: float = math.nan
    broken_allowed: float = math.nan
    spikes: int = 0
    spike_steps: tuple[int, ...] = ()
    fit: Fit | None = None
    unknown: str = ""


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def step_law_of(motion: Motion, stage: Stage, mixed: Mixed = ()) -> StepLaw:
    """Test the law of motion at every pair of neighbouring steps of a stage.

    Args:
        motion: the group's whole run.
        stage: the steps to test.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    if unknown := why_untested(motion, mixed):
        return StepLaw(unknown=unknown)
    tested = tested_steps(motion, stage)
    if not tested.pair.any():
        linked = (np.diff(tested.steps) == 1).any()
        why = "the weights were written between all neighbouring steps" if linked else NO_PAIR
        return StepLaw(unknown=why)
    if too_fine(motion, tested):
        unknown = f"the steps are too small for {motion.dtype or 'float32'} weights"
        return StepLaw(unknown=unknown)
    left, largest = (side[tested.pair] for side in tested.declared())
    residual, steps = np.abs(left) / largest, tested.steps[tested.pair]
    explained = (
        np.minimum(DEVIATIONS_OF_ROUNDING * tested.noise, tested.most)[tested.pair] / largest
    )
    allowed = np.maximum(explained, FAILS)
    fails = residual > allowed
    found = StepLaw(
        pairs=int(tested.pair.sum()),
        median=float(np.median(residual)),
        allowed=float(np.median(allowed)),
        failing=int(fails.sum()),
    )
    if not found.failing:
        return found
    start, stop = most_failing(fails)
    if fails[start:stop].sum() < FEWEST_IN_A_ROW:
        start = stop = 0
    single = np.concatenate([steps[:start][fails[:start]], steps[stop:][fails[stop:]]])
    found = dataclasses.replace(
        found,
        worst=float(residual[fails].max()),
        spikes=single.size,
        spike_steps=tuple(single[:STEPS_KEPT].tolist()),
    )
    if start == stop:
        return found
    first, last = int(steps[start]), int(steps[stop - 1])
    broken = start + np.flatnonzero(fails[start:stop])
    return dataclasses.replace(
        found,
        first=first,
        last=last,
        stretch=stop - start,
        broken=float(np.median(residual[broken])),
        broken_allowed=float(np.median(allowed[broken])),
        fit=_fit(tested, first, last),
    )


def most_failing(fails: Mask) -> tuple[int, int]:
    """The stretch [start, stop) with the largest number of failures less that of successes.

    >>> most_failing(np.array([0, 1, 0, 0, 1, 1, 0, 1, 1, 0], bool))
    (4, 9)
    """
    score = np.concatenate([[0], np.cumsum(np.where(fails, 1, -1))])
    lowest = np.minimum.accumulate(score)
    stop = int(np.argmax(score - lowest))
    return int(np.argmin(score[: stop + 1])), stop


def _fit(tested: Tested, first: int, last: int) -> Fit | None:
    """The settings of the first steps of a stretch."""
    rows = np.flatnonzero(tested.pair & (tested.steps >= first) & (tested.steps <= last))[:FITTED]
    if rows.size < FEWEST_TO_FIT:
        return None
    start = max(int(rows[0]) - 1, 0)
    near = tested.rows(slice(start, int(rows[-1]) + 1))
    pair = np.zeros(near.pair.shape, bool)
    pair[rows - start] = True
    found = fit_settings(dataclasses.replace(near, pair=pair))
    return dataclasses.replace(found, first=first, last=last)
