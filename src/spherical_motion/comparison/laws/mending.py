"""Which one setting, changed, would mend the balance law: for Adam and its relatives.

The law is an identity at each step but for the change of the preconditioner, so that what single
steps leave shows what is wrong: a wrong β1 leaves a part that follows the step before, a wrong
weight decay a constant share of |w|², a wrong rate one that follows <w, Px>. Least squares over the
steps of the stage says how much of what is left a change of one setting explains.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.balance import FASTEST, balance_window
from spherical_motion.comparison.laws.settings_fit import FITTED_SETTINGS
from spherical_motion.comparison.motion import Motion
from spherical_motion.errors import NoTheory
from spherical_motion.estimates import NO_ESTIMATE, Estimate, slow_mean_ratio
from spherical_motion.theory.motion import has_law_of_motion
from spherical_motion.vocabulary import HyperParameters, Stage

Array = NDArray[np.float64]

FEWEST_TO_MEND = 100
"""So many steps are needed. In the first hundred the change of a young preconditioner follows the
rate: a healthy Adam left 0.58 there."""

MEND_LEAVES = 0.4
"""Share of what single steps leave that a setting may leave. On three networks with norm layers
AdamW and Adam with a wrong β1 left 0.02 to 0.16, with a wrong rate 0.01 to 0.3, with a wrong decay
0.1 to 0.4. Without norm layers it was up to 0.37, and more with a wrong decay, which is not found
there. Healthy ones leave 0.64 and more."""

LEAST_RATE_ERROR = 0.05
"""A rate is not called wrong for less than this share."""

MENDS_ALIKE = 0.1
"""Settings that leave as much at single steps but for this share, and chance, are all possible."""

WINDOWS_MENDED = 4
"""A setting must explain each of so many parts of the stage, ..."""

MEND_STEADY = 0.5
"""... and be off in each by what it is in all, but for this share."""

MENDING_ROUNDS = 6
"""The law is linear in the settings, or nearly so."""

FAR_FROM_MEDIAN = 10.0
"""What a step leaves counts up to so many times the median."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One setting whose change explains what single steps leave of the balance law.

    Attributes:
        setting: "lr", "weight_decay" or "momentum" (β1).
        value: what it would have to be, with its 95% interval; the mean of a setting that varies.
            What the setting does not explain widens the interval.
        declared: what was recorded, the mean over the same steps.
        ratio: √(Σ turned / Σ law) with this value over the stage; NaN if Σ law is not above 0.
        before: the same ratio with the declared settings.
        left: root mean square of what single steps leave, over that with the declared settings.
        windows: parts of the stage in which it was tested.
    """

    setting: str
    value: Estimate
    declared: float
    ratio: float
    before: float
    left: float
    windows: int


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def mend(
    motion: Motion, stage: Stage, mixed: Sequence[tuple[float, float, float]] = ()
) -> tuple[Mend, ...]:
    """The settings whose change explains steps that the balance law does not, the likeliest first.

    Empty if none does, or the law is not known. More than one is named where the steps do not tell
    them apart: each of them is possible then. Weight decay inside Adam's gradient stands in
    <w, Px> and is possible where the rate is; it has no value then. SGD has the step law instead.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    if has_law_of_motion(motion.hp) or motion.no_balance or not _has_exact_law(motion.hp):
        return ()
    if mixed and max(len({m[0] for m in mixed}), len({m[2] for m in mixed})) > 1:
        return ()
    at = _Altered(balance_window(motion.within(stage.start, stage.stop), stage))
    if at.used.size < FEWEST_TO_MEND or _too_fast(at.here):
        return ()
    found = [_mended(at, setting) for setting in FITTED_SETTINGS]
    mends = sorted((m for m in found if m is not None), key=lambda m: m.left)
    if not mends:
        return ()
    most = mends[0].left * (1.0 + MENDS_ALIKE + 2.0 / math.sqrt(at.used.size)) + 1e-9
    mends = [m for m in mends if m.left <= most]
    if at.here.hp.decoupled or not at.here.weight_decay.any():
        return tuple(mends)
    decay = float(at.here.weight_decay.mean())
    inside = [
        dataclasses.replace(m, setting="weight_decay", value=NO_ESTIMATE, declared=decay)
        for m in mends
        if m.setting == "lr"
    ]
    return (*mends, *inside)


class _Altered:
    """The balance of a stage with one setting moved: lr times a factor, or more of another."""

    def __init__(self, here: Motion) -> None:
        self.here = here
        known = np.isfinite(here.turned) & np.isfinite(here.loss) & (here.lr > 0)
        self.used = np.flatnonzero(known)
        self.square = here.gram.ww[self.used]

    def both(self, value: float, setting: str) -> tuple[Array, Array]:
        """(turned, law) of the steps used; the change of P is its mean where not measured."""
        here = self.here
        sides = theory.balance_steps(
            here.hp,
            here.gram,
            steps=here.counted,
            lr=here.lr * (value if setting == "lr" else 1.0),
            weight_decay=here.felt_decay + (value if setting == "weight_decay" else 0.0),
            momentum=here.momentum + (value if setting == "momentum" else 0.0),
        )
        turned, law = sides.turned[self.used], sides.law[self.used]
        change = sides.change[self.used]
        measured = np.isfinite(change)
        if measured.any():
            law = law + np.where(measured, 0.0, change[measured].mean())
        known = np.isfinite(turned) & np.isfinite(law)
        return np.where(known, turned, 0.0), np.where(known, law, 0.0)

    def left(self, value: float, setting: str) -> Array:
        """What single steps leave, over |w|²."""
        turned, law = self.both(value, setting)
        return (turned - law) / self.square

    def range_of(self, setting: str) -> tuple[float, float]:
        """Between which values the setting is one."""
        if setting == "lr":
            return 0.01, 100.0
        if setting == "momentum":
            momentum = self.here.momentum
            return -float(momentum.min()), 0.9999 - float(momentum.max())
        return -float(self.here.felt_decay.min()), math.inf

    def step_of(self, setting: str) -> float:
        """A change of the setting that is small, and large beside rounding."""
        if setting != "weight_decay":
            return 1e-3
        return 1e-3 / float(self.here.lr.max())


def _has_exact_law(hp: HyperParameters) -> bool:
    try:
        return theory.law_of(hp).exact
    except NoTheory:
        return False


def _too_fast(here: Motion) -> bool:
    """Whether the preconditioner changes as fast as the average, and its change is not known."""
    beta2, known = here.hp.beta2, np.isfinite(here.change).any()
    return beta2 is not None and not known and 1.0 - beta2 > FASTEST * (1.0 - here.momentum.max())


def _mended(at: _Altered, setting: str) -> Mend | None:
    """What a setting would have to be; None if no value of it explains what is left."""
    none = 1.0 if setting == "lr" else 0.0
    declared = at.left(none, setting)
    low, high = at.range_of(setting)
    value, step = none, at.step_of(setting)
    trust = _trusted(declared)
    left = slope = declared
    for _ in range(MENDING_ROUNDS):
        left = at.left(value, setting)
        ahead = step if value + step < high else -step
        slope = (at.left(value + ahead, setting) - left) / ahead
        trust = _trusted(left)
        size = float((trust * slope * slope).sum())
        if not size > 0:
            return None
        move = -float((trust * left * slope).sum()) / size
        value = min(max(value + move, low), high)
        if value == low or abs(move) <= 1e-9 * max(abs(value), 1e-6):
            break
    left = at.left(value, setting)
    share = _size(left) / _size(declared) if _size(declared) > 0 else 1.0
    if not share <= MEND_LEAVES or value >= high:
        return None
    if setting == "lr" and abs(value - 1.0) < LEAST_RATE_ERROR:
        return None
    parts = np.array_split(np.arange(left.size), WINDOWS_MENDED)
    for part in parts:
        size = float((trust * slope * slope)[part].sum())
        off = -float((trust * left * slope)[part].sum()) / size if size > 0 else math.inf
        if abs(off) > MEND_STEADY * abs(value - none):
            return None
    return _of(at, setting, value, _reach(left, slope, trust, share * abs(value - none)), share)


def _of(at: _Altered, setting: str, value: float, reach: float, share: float) -> Mend:
    """The mend in the setting's own unit."""
    here, none = at.here, 1.0 if setting == "lr" else 0.0
    declared = {
        "lr": float(here.lr.mean()),
        "weight_decay": float(here.felt_decay.mean()),
        "momentum": float(here.momentum.mean()),
    }[setting]
    times = declared if setting == "lr" else 1.0
    middle = declared + times * (value - none)
    return Mend(
        setting=setting,
        value=Estimate(middle, middle - times * reach, middle + times * reach),
        declared=declared,
        ratio=_ratio(*at.both(value, setting)),
        before=_ratio(*at.both(none, setting)),
        left=share,
        windows=WINDOWS_MENDED,
    )


def _trusted(left: Array) -> Array:
    """Weights that keep steps of another kind from deciding: 1 up to `FAR_FROM_MEDIAN` medians."""
    size = np.abs(left)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, np.minimum(1.0, FAR_FROM_MEDIAN * np.median(size) / size), 1.0)


def _size(left: Array) -> float:
    """Root mean square, of each step up to `FAR_FROM_MEDIAN` medians."""
    size = np.abs(left)
    return float(np.sqrt((np.minimum(size, FAR_FROM_MEDIAN * np.median(size)) ** 2).mean()))


def _reach(left: Array, slope: Array, trust: Array, unexplained: float) -> float:
    """Error of the fit: chance, by batch means, and what a part not explained may hide."""
    chance = slow_mean_ratio(trust * left * slope, trust * slope * slope)
    return math.hypot((chance.high - chance.low) / 2.0, unexplained)


def _ratio(turned: Array, law: Array) -> float:
    total = float(law.sum())
    return math.sqrt(max(float(turned.sum()), 0.0) / total) if total > 0 else math.nan
