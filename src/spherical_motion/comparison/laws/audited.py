"""What the audit of single steps says of one group: were they the rule's, and what was around them.

An audited step has the inner products of w (before the step), d (the step) and e (the step that the
optimizer's rule makes). A step differs if |d - e| is more than rounding explains. Then least
squares on d = a·e + b·w say whether another rate (a) or another weight decay (b) would make it.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.laws.audited_run import AuditedRun
from spherical_motion.comparison.laws.clipped_entries import Limits, limit_of_entries
from spherical_motion.comparison.laws.limits import EPSILON_LARGE, REWRITTEN
from spherical_motion.comparison.laws.step_fit import StepFit, fit_of
from spherical_motion.records import AuditSeries, Records
from spherical_motion.records.info import NormLayer
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]

SUMMED = ("ww", "wd", "we", "dd", "ee", "de", "miss_sq", "allowed_sq")
"""Columns that add up over the parameters of a group."""

HALF = ("float16", "bfloat16")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditedSteps:
    """The audited steps of one group, in one stage or in the whole run.

    Attributes:
        steps: audited steps.
        replayed: those that were replayed.
        last: the last of those.
        skipped: the most frequent reason why the others were not; "" if there are none.
        differing: the steps that are not the rule's.
        onset: (last replayed step before the first of them that was the rule's, the first of them);
            the former is None if there is none. None if no step differs.
        length, cosine: median over the differing steps of |d|/|e| and of cos(d, e).
        miss: median over them of |d - e|/|e|.
        fit: what other settings would make them; None if none differs.
        lost: share of |e|² in entries that rounding left where they were, over all steps.
        peak: share of the gradient's non-zero entries that have exactly the largest size: the
            median over all steps, or over the last two if that is larger.
        entries_at: the size at which entries of the gradient are clipped one by one; NaN if none.
        entries_share: share of the last burst of audited steps at which they are.
        rewritten: median of what `step` did to the gradient, as a share of it.
        rewritten_since: the first step at which it did so by more than rounding, or None.
        counter, taken: the optimizer's count at the last audited step, and the steps it took.
        miscounted: the first step at which the two differ, or None.
        clipped_at: the value at which the global gradient norm sits; NaN if at none.
        clipped_share: share of the audited steps at which it does.
        late, clipped_late: audited steps after the run's first ones, and the share at the limit.
        norms: (name, ε) of the norm layers that it feeds, if the run recorded them.
        in_eval: those in eval mode; all that may be, where it is not certain which are.
        epsilon: the same of the mean ε/(var + ε) in the norm layers that it feeds.
        eval_mode: share of the steps at which one of these layers used running statistics.
        eval_mode_late: share of the last two.
        eval_since, peak_since, clipped_since: the first audited step at which such a layer used
            them, entries sat at `entries_at`, the global norm sat at `clipped_at`; or None.
        epsilon_since: the first audited step at which ε is large, or None.
        replaced: the first step at which the model had another tensor in its place, or None.
    """

    steps: int = 0
    replayed: int = 0
    last: int | None = None
    skipped: str = ""
    differing: tuple[int, ...] = ()
    onset: tuple[int | None, int] | None = None
    length: float = math.nan
    cosine: float = math.nan
    miss: float = math.nan
    fit: StepFit | None = None
    lost: float = math.nan
    peak: float = math.nan
    entries_at: float = math.nan
    entries_share: float = math.nan
    rewritten: float = math.nan
    rewritten_since: int | None = None
    counter: float = math.nan
    taken: float = math.nan
    miscounted: int | None = None
    clipped_at: float = math.nan
    clipped_share: float = math.nan
    late: int = 0
    clipped_late: float = math.nan
    norms: tuple[NormLayer, ...] = ()
    in_eval: tuple[str, ...] = ()
    epsilon: float = math.nan
    eval_mode: float = math.nan
    eval_mode_late: float = math.nan
    eval_since: int | None = None
    peak_since: int | None = None
    clipped_since: int | None = None
    epsilon_since: int | None = None
    replaced: int | None = None

    @property
    def first(self) -> int | None:
        """The first step that is not the rule's, or None."""
        return None if self.onset is None else self.onset[1]


def audited_steps(
    run: Records | AuditedRun,
    group: str,
    stage: Stage | None = None,
    *,
    within: Records | None = None,
) -> AuditedSteps:
    """What the audit says of a group in a stage; left out, in the whole run.

    `within` is a part of the run that holds the group, if that is at hand.

    Without an audit nothing is known: `steps` is 0. A stage that holds fewer than three audited
    steps takes the clipping of the whole run.
    """
    run = run if isinstance(run, AuditedRun) else AuditedRun(run)
    records = run.records if within is None else within
    column = records.index(group)
    info = records.info
    own, main = info.groups[column], info.slices[records.main_slices[column]].parameter
    optimizer = info.param_groups[info.slice_param_group[records.main_slices[column]]]
    number = int(optimizer.get("optimizer", 0))
    rows, here = run.rows(own.parameters, stage), run.calls(number, stage)
    steps = np.unique(np.concatenate([series.step for series in rows]))
    if not steps.size:
        return AuditedSteps(skipped=_most_frequent(here.skipped))
    sums = {name: _summed(rows, steps, name) for name in SUMMED}
    replayed = np.isfinite(sums["miss_sq"])
    differ = _any_differs(rows, steps)
    rough = any(info.dtypes.get(name) in HALF for name in own.parameters)
    mains = rows[own.parameters.index(main)]
    found = AuditedSteps(
        steps=len(steps),
        replayed=int(replayed.sum()),
        last=int(steps[replayed][-1]) if replayed.any() else None,
        skipped=_most_frequent(here.skipped),
        differing=tuple(steps[differ].tolist()),
        lost=_lost(rows),
        peak=_at_any_time(mains.peak),
        **_entries(rows, run.limits),
        rewritten=_median(np.concatenate([series.rewritten for series in rows])),
        norms=tuple(dict.fromkeys(norm for name in own.parameters for norm in run.norms_of(name))),
        in_eval=tuple(
            dict.fromkeys(norm for name in own.parameters for norm in run.in_eval(name, stage))
        ),
        rewritten_since=_first(rows, "rewritten", REWRITTEN),
        epsilon=_at_any_time(mains.epsilon),
        eval_mode=_mean(np.concatenate([series.eval_mode for series in rows])),
        eval_mode_late=_mean(mains.eval_mode[-2:]),
        eval_since=_first(rows, "eval_mode", 0.5),
        epsilon_since=_first([mains], "epsilon", EPSILON_LARGE),
        replaced=_first(rows, "replaced", 0.5),
        **_counts(rows),
        **run.clipping(number, stage, rough=rough)._asdict(),
    )
    if not differ.any():
        return found
    return dataclasses.replace(
        found, **_difference(records, column, steps, sums, differ, replayed & ~differ)
    )


def _difference(
    records: Records,
    column: int,
    steps: NDArray[np.int64],
    sums: dict[str, Array],
    differ: NDArray[np.bool_],
    alike: NDArray[np.bool_],
) -> dict:
    """How the steps that differ do so."""
    first = int(steps[differ][0])
    before = steps[alike & (steps < first)]
    dd_before = np.full(len(steps), np.nan)
    dd_before[1:] = np.where(np.diff(steps) == 1, sums["dd"][:-1], np.nan)
    wd_before = dd_before.copy()
    wd_before[1:] += sums["wd"][:-1]
    wrong = {name: values[differ] for name, values in sums.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        length = np.sqrt(wrong["dd"] / wrong["ee"])
        cosine = wrong["de"] / np.sqrt(wrong["dd"] * wrong["ee"])
        miss = np.sqrt(wrong["miss_sq"] / wrong["ee"])
    return {
        "onset": (int(before[-1]) if before.size else None, first),
        "length": _median(length),
        "cosine": _median(cosine),
        "miss": _median(miss),
        "fit": fit_of(records, column, steps[differ], wrong, dd_before[differ], wd_before[differ]),
    }


def _summed(rows: list[AuditSeries], steps: NDArray[np.int64], name: str) -> Array:
    """A column summed over the parameters at each step; NaN where one of them is."""
    total = np.zeros(len(steps))
    for series in rows:
        column = np.full(len(steps), np.nan)
        column[np.searchsorted(steps, series.step)] = getattr(series, name)
        total += column
    return total


def _any_differs(rows: list[AuditSeries], steps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether at least one parameter was stepped otherwise, a small one beside a large one too."""
    found = np.zeros(len(steps), dtype=bool)
    for series in rows:
        found[np.searchsorted(steps, series.step[series.miss_sq > series.allowed_sq])] = True
    return found


def _lost(rows: list[AuditSeries]) -> float:
    """The share of all |e|² that rounding has lost."""
    ee = np.concatenate([series.ee for series in rows])
    lost = np.concatenate([series.lost for series in rows]) * ee
    known = np.isfinite(lost)
    total = float(ee[known].sum())
    return float(lost[known].sum()) / total if total > 0.0 else math.nan


def _first(rows: list[AuditSeries], column: str, above: float) -> int | None:
    """The first step at which a column is above a number in any of the rows."""
    steps = np.concatenate([series.step[getattr(series, column) > above] for series in rows])
    return int(steps.min()) if steps.size else None


def _counts(rows: list[AuditSeries]) -> dict:
    """The counts of the parameter that is counted wrong first, else of the first that has any."""
    found: list[tuple[int | None, float, float]] = []
    for series in rows:
        known = np.isfinite(series.counter) & np.isfinite(series.taken)
        if known.any():
            wrong = series.step[known & (series.counter != series.taken)]
            first = int(wrong[0]) if wrong.size else None
            found.append((first, series.counter[known][-1], series.taken[known][-1]))
    if not found:
        return {}
    first, counter, taken = min(found, key=lambda f: math.inf if f[0] is None else f[0])
    return {"counter": float(counter), "taken": float(taken), "miscounted": first}


def _most_frequent(words: NDArray[np.object_]) -> str:
    given = [str(word) for word in words if word]
    return max(dict.fromkeys(given), key=given.count) if given else ""


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else math.nan


def _at_any_time(values: Array) -> float:
    """The median, or that of the last two audited steps if it is larger: what began late."""
    return max(_median(values), _median(values[-2:])) if values.size else math.nan


def _entries(rows: list[AuditSeries], limits: Limits) -> dict:
    """Limit, share and first step of the parameter whose entries are clipped most often."""
    found = max((limit_of_entries(series, limits) for series in rows), key=lambda c: c.share)
    return {"entries_at": found.limit, "entries_share": found.share, "peak_since": found.since}


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
