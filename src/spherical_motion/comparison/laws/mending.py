"""Which one setting, changed, would bring the balance law to 1: for Adam and its relatives.

The law is summed with one setting moved until both sides agree. A wrong β1 leaves a part in single
steps that follows the step before; a wrong weight decay leaves a constant; a wrong rate one that
follows <w, Px>. So what single steps leave tells the settings apart, where it can be seen beside
the change of the preconditioner.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root_scalar

from spherical_motion import theory
from spherical_motion.comparison.balance import (
    HIGH,
    LOW,
    NEGLECTED,
    balance_window,
    newest_weight,
    tug_of_war,
)
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.statistics import slow_root_mean_ratio
from spherical_motion.estimates import NO_ESTIMATE, Estimate, slow_mean_ratio
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]

SETTINGS = ("momentum", "weight_decay", "lr")

WINDOWS = 4
"""A setting must mend each of so many parts of the stage, ..."""

FEWEST = 50
"""... of at least so many steps."""

ALIKE = 0.02
"""Settings that leave as much at single steps but for this share, and chance, are all possible."""

LEAVES = 0.5
"""Share of what single steps leave that a setting may leave. Healthy runs have 0.9 to 1, and 0.6 in
their first hundred steps; wrong settings 0.01 to 0.3."""

LIKELY = 0.1
"""Squared cosine between what single steps leave and what a change of a setting adds to it, from
which on the setting is tried. It leaves at least √(1 - cos²) of them: 0.95 here."""

FARTHEST = 10.0
"""Rates up to this many times as large or small are tried, and decays up to as many times."""

TRIED = 25
"""Values between which a sign change of Σ turned - Σ law is sought, for each setting."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One setting whose change brings the balance law to 1 in all windows of a stage.

    Attributes:
        setting: "lr", "weight_decay" or "momentum" (β1).
        value: what it would have to be, with its 95% interval; the mean of a setting that varies.
        declared: what was recorded, the mean over the same steps.
        ratio: √(Σ turned / Σ law) with this value, over the whole stage.
        before: the same ratio with the declared settings.
        left: root mean square of what single steps leave, over that with the declared settings.
        windows: windows in which the ratio was tested.
    """

    setting: str
    value: Estimate
    declared: float
    ratio: float
    before: float
    left: float
    windows: int


def mend(
    motion: Motion,
    stage: Stage,
    mixed: Sequence[tuple[float, float, float]] = (),
    tug: TugOfWar | None = None,
) -> tuple[Mend, ...]:
    """The settings whose change explains steps that the law does not, the most likely first.

    A setting explains them if it brings the law to 1 and leaves half of single steps at most.
    Empty if none does, or the law is not known. More than one is named where the steps do not tell
    them apart: each of them is possible then. Weight decay inside Adam's gradient stands in
    <w, Px> and is possible where the rate is; it has no value then.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
        tug: `tug_of_war` of the same arguments, if it is at hand.
    """
    tug = tug_of_war(motion, stage, mixed) if tug is None else tug
    if tug.unknown or not tug.balance.value > 0 or not theory.law_of(motion.hp).exact:
        return ()
    here = balance_window(motion.within(stage.start, stage.stop), stage)
    at = _Altered(here)
    declared = _left(at, 1.0, "lr")
    likely = [setting for setting in SETTINGS if _follows(at, setting) > LIKELY]
    found = [_mended(at, setting, declared, tug.balance.value) for setting in likely]
    mends = sorted((m for m in found if m is not None and m.left <= LEAVES), key=lambda m: m.left)
    if not mends:
        return ()
    most = mends[0].left * (1.0 + ALIKE + 2.0 / math.sqrt(len(at.used)))
    mends = [m for m in mends if m.left <= most]
    hidden = not here.hp.decoupled and bool(here.weight_decay.any()) and here.hp.optimizer != "sgd"
    for rate in [m for m in mends if m.setting == "lr" and hidden]:
        decay = float(here.weight_decay.mean())
        mends.append(
            dataclasses.replace(rate, setting="weight_decay", value=NO_ESTIMATE, declared=decay)
        )
    return tuple(mends)


class _Altered:
    """The balance of a stage with one setting moved: lr times a factor, or more of another."""

    def __init__(self, here: Motion) -> None:
        self.here = here
        self.known = np.isfinite(here.turned) & np.isfinite(here.loss)
        self.used = np.flatnonzero(self.known)

    def sides(self, value: float, setting: str) -> theory.BalanceSteps:
        here = self.here
        return theory.balance_steps(
            here.hp,
            here.gram,
            steps=here.counted,
            lr=here.lr * (value if setting == "lr" else 1.0),
            weight_decay=here.felt_decay + (value if setting == "weight_decay" else 0.0),
            momentum=here.momentum + (value if setting == "momentum" else 0.0),
        )

    def both(self, value: float, setting: str) -> tuple[Array, Array]:
        """(turned, law) of the steps used; the change of P is its mean where not measured."""
        sides = self.sides(value, setting)
        change = sides.change[self.used]
        law = sides.law[self.used]
        if np.isfinite(change).any():
            law = law + np.where(np.isnan(change), np.nanmean(change), 0.0)
        known = np.isfinite(sides.turned[self.used]) & np.isfinite(law)
        return np.where(known, sides.turned[self.used], 0.0), np.where(known, law, 0.0)

    def trials(self, setting: str) -> Array:
        """Values to try, those next to what was declared in the middle."""
        here = self.here
        if setting == "lr":
            return np.geomspace(1.0 / FARTHEST, FARTHEST, TRIED)
        if setting == "momentum":
            low, high = float(here.momentum.min()), float(here.momentum.max())
            kept = 1.0 - np.geomspace(1.0, 1e-3, TRIED)
            return kept[kept - low + high < 1.0] - low
        decay = float(here.felt_decay.max())
        least = -float(here.felt_decay.min())
        return np.linspace(least, FARTHEST * max(decay, 1e-2), 4 * TRIED)


def _mended(at: _Altered, setting: str, declared: float, before: float) -> Mend | None:
    """What a setting would have to be; None if no value of it brings the law to 1 everywhere."""

    def missing(value: float) -> float:
        turned, law = at.both(value, setting)
        return float((turned - law).sum())

    value = _root(missing, at.trials(setting), 1.0 if setting == "lr" else 0.0)
    if value is None:
        return None
    turned, law = at.both(value, setting)
    windows = [w for w in np.array_split(np.arange(len(law)), WINDOWS) if w.size >= FEWEST]
    windows = windows or [np.arange(len(law))]
    for window in windows:
        ratio = slow_root_mean_ratio(turned[window], law[window])
        near = LOW <= ratio.value <= HIGH
        if not near and not ratio.meets(LOW, HIGH):
            return None
    here = at.here
    scale = here.gram.ww[at.used]
    step = 1e-4 * (1.0 if setting == "lr" else max(abs(value), 1e-2))
    slope = (missing(value + step) - missing(value - step)) / (2.0 * step) / float(scale.sum())
    if not slope:
        return None
    reach = _reach(at, turned - law, law) / abs(slope)
    offset = {
        "lr": 0.0,
        "weight_decay": float(here.felt_decay.mean()),
        "momentum": float(here.momentum.mean()),
    }[setting]
    times = float(here.lr.mean()) if setting == "lr" else 1.0
    middle = offset + times * value
    if abs(value - (1.0 if setting == "lr" else 0.0)) <= reach:
        return None
    return Mend(
        setting=setting,
        value=Estimate(middle, middle - times * reach, middle + times * reach),
        declared=offset if setting != "lr" else times,
        ratio=math.sqrt(float(turned.sum() / law.sum())),
        before=before,
        left=_left(at, value, setting) / declared if declared > 0 else math.nan,
        windows=len(windows),
    )


def _follows(at: _Altered, setting: str) -> float:
    """Squared cosine between what single steps leave and what a change of the setting adds."""
    none = 1.0 if setting == "lr" else 0.0
    step = 1e-3 * (1.0 if setting != "weight_decay" else 1.0 / float(at.here.lr.max()))
    (turned, law), (turned_more, law_more) = (at.both(none + x, setting) for x in (0.0, step))
    square = at.here.gram.ww[at.used]
    left = (turned - law) / square
    added = (turned_more - law_more) / square - left
    with np.errstate(divide="ignore", invalid="ignore"):
        trust = np.minimum(1.0, 10.0 * np.median(np.abs(left)) / np.abs(left))
    left, added = (np.nan_to_num(x * trust) for x in (left, added))
    size = float(left @ left) * float(added @ added)
    return float(left @ added) ** 2 / size if size > 0 else 0.0


def _reach(at: _Altered, left: Array, law: Array) -> float:
    """Error of the mean of what is left, over |w|²: chance, and the change of P if left out."""
    here = at.here
    square = here.gram.ww[at.used]
    mean = slow_mean_ratio(left, square)
    chance = (mean.high - mean.low) / 2.0
    if here.hp.beta2 is None or np.isfinite(here.change[at.used]).all():
        return chance
    parts = (here.decay, here.loss, here.grown)
    largest = max(abs(float(np.nansum(part[at.used]))) for part in parts)
    largest = max(largest, abs(float(law.sum())))
    neglected = NEGLECTED * newest_weight(here[at.known])
    return math.hypot(chance, neglected * largest / float(square.sum()))


def _root(missing: Callable[[float], float], trials: Array, declared: float) -> float | None:
    """The value nearest to the declared one at which nothing is missing; None if there is none."""
    values = np.array([missing(float(value)) for value in trials])
    known = np.isfinite(values)
    trials, values = trials[known], values[known]
    crossing = np.flatnonzero(np.sign(values[1:]) != np.sign(values[:-1]))
    if not crossing.size:
        return None
    middles = 0.5 * (trials[crossing] + trials[crossing + 1])
    nearest = crossing[np.argmin(np.abs(middles - declared))]
    bracket = (float(trials[nearest]), float(trials[nearest + 1]))
    return float(root_scalar(missing, bracket=bracket, method="brentq").root)


def _left(at: _Altered, value: float, setting: str) -> float:
    """Root mean square of what single steps leave of the law, over |w|²."""
    turned, law = at.both(value, setting)
    # Steps of the optimizer's youth or of another fault would decide a plain mean.
    share = np.abs(turned - law) / at.here.gram.ww[at.used]
    return float(np.sqrt((np.minimum(share, 10.0 * np.median(share)) ** 2).mean()))
