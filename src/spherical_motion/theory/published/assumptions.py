"""Whether a recorded run meets what wan2021's theorems assume (1-4 for SGD, 5-8 with momentum).

The assumptions speak of h̃, the drive, given the weights: of its mean L_t, its variance (at most V)
and its lowest value l. A run shows one value of h̃ a step, so that L_t is estimated by the mean over
windows of consecutive steps, as the paper does over 200. "≪ 1" is read as at most 1%.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks, sphere
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.theory.families import family_of
from spherical_motion.theory.settings import is_heavy_ball
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

SMALL = 0.01
"""What "much smaller than 1" is taken to mean."""

WINDOW = 200
"""Consecutive steps over which the drive is averaged (wan2021, figure 5)."""


@dataclasses.dataclass(frozen=True, slots=True)
class AssumptionCheck:
    """One assumption held against a run.

    Attributes:
        name: "assumption 1" ... "assumption 8", as numbered in wan2021.
        holds: whether the run is compatible with it.
        value, limit: what was found and what it is compared with.
        sentence: both in words.
    """

    name: str
    holds: bool
    value: float
    limit: float
    sentence: str

    def __str__(self) -> str:
        return f"{self.name} {'holds' if self.holds else 'fails'}: {self.sentence}"


@dataclasses.dataclass(frozen=True, slots=True)
class DriveStatistics:
    """What the theorems need of a series of h̃, in units of |g̃|².

    Attributes:
        mean: L, over the whole series.
        largest_mean: the largest L_t over its windows.
        variance: V, the largest variance within a window.
        lowest: l, the smallest single value; below 0 it is no bound.
        slope, slope_error: change of L_t per step, a line through the window means, and its
            standard error; NaN with fewer than three windows.
        windows: how many there were.
    """

    mean: float
    largest_mean: float
    variance: float
    lowest: float
    slope: float
    slope_error: float
    windows: int


@checks.validated
def drive_statistics(
    drive: ArrayLike, *, steps: ArrayLike | None = None, window: int = WINDOW
) -> DriveStatistics:
    """Mean, variance, minimum and drift of a drive, from windows in a row.

    Args:
        drive: h̃ per step, shape (samples,); NaN where unknown.
        steps: step numbers; left out, consecutive.
        window: samples a window; the remainder at the front is left out of the windows.

    Raises InvalidArgument: fewer finite samples than one window, or a window under 2.
    """
    values = np.asarray(drive, dtype=np.float64)
    numbers = np.arange(values.size) if steps is None else np.asarray(steps)
    if values.ndim != 1 or numbers.shape != values.shape:
        raise InvalidArgument(
            f"drive_statistics expects drive and steps of one shape (samples,), got "
            f"{values.shape} and {numbers.shape}."
        )
    known = np.isfinite(values)
    values, numbers = values[known], numbers[known]
    if window < 2 or values.size < window:
        raise InvalidArgument(
            f"drive_statistics(window=...) must be >= 2 and <= the {values.size} finite samples, "
            f"got {window}. Pass a longer series or a smaller window."
        )
    count = values.size // window
    blocks = values[values.size - count * window :].reshape(count, window)
    means = blocks.mean(axis=1)
    slope, error = math.nan, math.nan
    if count >= 3:
        at = numbers[values.size - count * window :].reshape(count, window).mean(axis=1)
        at = at - at.mean()
        slope = float(at @ means / (at @ at))
        left = means - means.mean() - slope * at
        error = math.sqrt(float(left @ left) / (count - 2) / float(at @ at))
    variance = float(blocks.var(axis=1, ddof=1).max())
    mean, largest, lowest = float(values.mean()), float(means.max()), float(values.min())
    return DriveStatistics(mean, largest, variance, lowest, slope, error, windows=count)


@checks.validated
def check_assumptions(
    hp: HyperParameters, gram: Gram, *, steps: ArrayLike | None = None, window: int = WINDOW
) -> tuple[AssumptionCheck, ...]:
    """The four assumptions of theorem 1 (α = 0) or of theorem 2, held against one group's steps.

    Args:
        hp: SGD with L2, constant over the series.
        gram: the six products of each step, shape (samples,), consecutive or in pairs.
        steps, window: as in `drive_statistics`.

    Raises:
        NoTheory: another optimizer.
        OutOfDomain: no equilibrium at `hp`.
        InvalidArgument: too short a series.
    """
    if not is_heavy_ball(hp) or (hp.dampening and hp.momentum):
        raise NoTheory("check_assumptions: the theorems are about SGD with L2, heavy ball.")
    a = family_of(hp).intrinsic_lr(hp, "check_assumptions")
    drive = sphere.unit_gradient_drive(gram, hp.lr, hp.weight_decay, hp.momentum)
    found = drive_statistics(drive, steps=steps, window=window)
    first = 5 if hp.momentum else 1
    return (
        _small_rate(f"assumption {first}", a, hp.momentum),
        _variance(f"assumption {first + 1}", found),
        _steady(f"assumption {first + 2}", found, a),
        _bounded(f"assumption {first + 3}", found, a, hp.momentum),
    )


def _small_rate(name: str, a: float, m: float) -> AssumptionCheck:
    limit = min(SMALL, (1.0 - math.sqrt(m)) ** 2)
    needed = "much smaller than 1" + (" and than (1 - √α)²" if m else "")
    text = f"ηλ = {a:.3g} must be {needed}, here at most {limit:.3g}"
    return AssumptionCheck(name, a < limit, a, limit, text)


def _variance(name: str, s: DriveStatistics) -> AssumptionCheck:
    text = (
        f"the variance of the drive is at most V = {s.variance:.3g} in any of {s.windows} windows "
        f"(mean L = {s.mean:.3g}); any finite V will do"
    )
    return AssumptionCheck(name, math.isfinite(s.variance), s.variance, math.inf, text)


def _steady(name: str, s: DriveStatistics, a: float) -> AssumptionCheck:
    limit = 4.0 * math.sqrt(s.variance) * a**1.5
    if math.isnan(s.slope):
        text = "with fewer than three windows the change of the mean drive is unknown"
        return AssumptionCheck(name, False, math.nan, limit, text)
    value = abs(s.slope)
    text = (
        f"the mean drive changes by {value:.2g} ± {2 * s.slope_error:.2g} a step over the run; "
        f"4√V(ηλ)^1.5 = {limit:.2g} is allowed"
    )
    return AssumptionCheck(name, value - 2.0 * s.slope_error < limit, value, limit, text)


def _bounded(name: str, s: DriveStatistics, a: float, m: float) -> AssumptionCheck:
    room = (1.0 - m) ** 3 * (1.0 + m) - 8.0 * a * (1.0 - m) if m else 1.0 - 2.0 * a
    share = (6.0 if m else 2.0) * a / room
    limit = 2.0 * share**2 * s.largest_mean if room > 0 else math.inf
    text = (
        f"the lowest drive is l = {s.lowest:.3g}; it must stay above 0 and {limit:.3g}, "
        f"a multiple of L = {s.largest_mean:.3g} that ηλ and α set"
    )
    return AssumptionCheck(name, s.lowest > max(limit, 0.0), s.lowest, limit, text)
