"""The balance law of one group over a stage, as evidence.

The law holds from step to step for every weight, at rest or not, so all that a window, a schedule
or a burst of samples needs is a sum of `theory.balance_steps` over the steps whose predecessor is
on record. Each step has its boundary term in it, so the residuals of single steps do not telescope,
and batch means give their error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.account import (
    explains,
    forces_of_window,
    growth_of,
    mended_by_change,
    pull_of,
    why_inseparable,
)
from spherical_motion.comparison.forces import Forces, TugOfWar
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.statistics import around, slow_root_mean_ratio
from spherical_motion.estimates import Estimate
from spherical_motion.records.written import WRITTEN
from spherical_motion.theory.late_pull import late, start_up, stopped_for
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]
Mixed = Sequence[tuple[float, float, float]]

LOW, HIGH = 0.95, 1.05
"""A ratio whose 95% interval meets this range agrees with the theory."""

JUDGED_MEMORIES = 3
"""The law needs this many times 1/(1 - α) steps in a row."""

FEWEST_TERMS = 10
"""Fewer terms than this have no interval."""

NEGLECTED = 8.0
"""Times the weight of the newest gradient in v̂: the change of the preconditioner, as a share of the
largest term of the law. With it the intervals of 98 of 100 matrices of `benchmarks/balance` held 1;
in half of all windows it is below 4."""

FASTEST = 0.2
"""1 - β2 over 1 - β1 above which the change of the preconditioner must be measured. At β2 = .95 it
is 14 to 43% of the law on real networks, at .99 it is 1 to 2%."""


def balance_window(here: Motion, stage: Stage) -> Motion:
    """The samples of a stage whose balance is judged.

    All legal ones but those of its start, and but those at which the group stood still, since the
    optimizer skipped it or the rate was 0.
    """
    here = here[~here.illegal & ~here.idle & (here.gram.dd > 0.0)]
    if not len(here):
        return here
    return here.within(stage.start + start_up(here.momentum), stage.stop)


def tug_of_war(motion: Motion, stage: Stage, mixed: Mixed = ()) -> TugOfWar:
    """The balance law of a group over one stage, without the stage's first steps.

    Args:
        motion: the group's whole run.
        stage: the steps to judge.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    all_here = motion.within(stage.start, stage.stop)
    here = balance_window(all_here, stage)
    recent = here[late(here.momentum)]
    over = bool(len(motion)) and bool(motion.steps[-1] >= stage.stop)
    seen = dataclasses.replace(_what_happened(all_here, here, recent), over=over)
    if unknown := motion.no_balance or _members_differ(mixed):
        return dataclasses.replace(seen, unknown=unknown)
    fewest = fewest_steps(all_here)
    if stage.steps < fewest:
        unknown = f"{stage.steps} steps are too few: it takes {fewest}"
        seen = dataclasses.replace(
            seen, fewest=fewest, momentum=_momentum(all_here[~all_here.illegal])
        )
    if not len(here):
        return dataclasses.replace(seen, unknown=unknown or "no lawful step is on record")
    known = here[np.isfinite(here.turned) & np.isfinite(here.loss)]
    found = theory.balance(
        here.hp,
        here.gram,
        steps=here.counted,
        lr=here.lr,
        weight_decay=here.felt_decay,
        momentum=here.momentum,
        correlation=motion.correlation,
        dtype=here.dtype,
        numel=here.group.numel,
    )
    unsure = why_unsure(known, len(known), changed=not np.isnan(known.change).all())
    unknown = unknown or found.unknown or unsure
    pull, decay_share = pull_of(recent)
    tug = dataclasses.replace(
        seen,
        balance=Estimate() if unknown else _balance(known, found),
        pull=pull,
        decay_share=decay_share,
        real_decay=real_decay_share(here),
        amplification=found.amplification,
        forces=forces_of_window(recent, 1.0 - seen.idle),
        terms=len(known),
        exact=not found.neglects and not motion.prediction_error,
        young=math.nan if here.hp.beta2 is None else 1.0 / (1.0 - here.hp.beta2),
        mendable=bool(found.neglects) and mended_by_change(here),
        unknown=unknown,
        neglects=found.neglects,
        inseparable=why_inseparable(recent),
    )
    if unexplained := _why_unexplained(tug, recent):
        forces = Forces(growth=tug.forces.growth)
        tug = dataclasses.replace(tug, forces=forces, unexplained=unexplained)
    return tug


def _what_happened(all_here: Motion, here: Motion, recent: Motion) -> TugOfWar:
    """What needs no law: how the norm moved, which steps were skipped, who wrote the weights."""
    stopped = stopped_for(all_here.steps, all_here.idle)
    judged = all_here
    if len(here):
        end = math.inf if stopped else here.steps[-1] + 1
        judged = all_here.within(here.steps[0], end)
    pairs = judged.written[np.isfinite(judged.written)]
    writes = pairs[np.abs(pairs) > WRITTEN]
    after = all_here[len(all_here) - stopped :] if stopped else all_here[:0]
    tug = TugOfWar(
        written=writes.size,
        pairs=pairs.size,
        write=float(np.median(writes)) if writes.size else math.nan,
        stopped=int(after.steps[-1] - after.steps[0]) + 1 if stopped else 0,
        written_after=int((np.abs(after.written) > WRITTEN).sum()),
    )
    if not len(recent):
        return tug
    first, stop = int(recent.steps[0]), int(recent.steps[-1]) + 1
    growth = growth_of(recent)
    return dataclasses.replace(
        tug,
        growth=growth,
        forces=Forces(growth=growth.value / 2.0),
        window=stop - first,
        until=stop,
        idle=float(all_here.within(first, stop).idle.mean()),
    )


def fewest_steps(all_here: Motion) -> int:
    """How many steps in a row a stage must have for a balance."""
    legal = all_here[~all_here.illegal]
    if not len(legal):
        return 0
    judged = max(math.ceil(JUDGED_MEMORIES / (1.0 - _momentum(legal))), FEWEST_TERMS)
    return math.ceil(start_up(legal.momentum)) + judged + 1


def _why_unexplained(tug: TugOfWar, recent: Motion) -> str:
    """Why the parts of the law are not those of the growth now; empty if they are."""
    if (np.abs(recent.written) > WRITTEN).any():
        return "the weights were written between steps"
    known = recent[np.isfinite(recent.turned) & np.isfinite(recent.loss)]
    now = Estimate()
    if tug.exact and len(known):
        now = slow_root_mean_ratio(known.turned, known.law)
    return why_missed(tug, now)


def why_missed(tug: TugOfWar, now: Estimate) -> str:
    """Why the parts miss the growth, where nothing wrote the weights; empty if they do not.

    Args:
        tug: the balance, with its forces.
        now: √(Σ turned / Σ law) of now; NaN where the law is not exact.
    """
    if not math.isnan(now.low) and not now.meets(LOW, HIGH):
        return "the balance law does not hold"
    if explains(tug.forces):
        return ""
    return f"the law leaves out {tug.neglects}" if tug.neglects else "the balance law does not hold"


def _balance(known: Motion, found: theory.Balance) -> Estimate:
    """The ratio, its interval from batch means, and in it the size of what the law leaves out."""
    interval = slow_root_mean_ratio(known.turned, known.law)
    neglects = bool(found.neglects) and bool(np.isnan(known.change).all())
    newest = newest_weight(known) if neglects else None
    return balance_estimate(interval, found, known.prediction_error, newest)


def balance_estimate(
    interval: Estimate, found: theory.Balance, error: float, newest: float | None
) -> Estimate:
    """The ratio with its interval.

    Args:
        interval: √(Σ turned / Σ law) by batch means.
        found: what the law says.
        error: relative error of what is predicted.
        newest: `newest_weight` where the law leaves the change of the preconditioner out, else
            None.
    """
    balance = around(found.ratio, interval)
    balance = balance.widened(error)
    balance = balance.widened(found.rounding / 2.0)  # the ratio is a square root
    if newest is None:
        return balance
    share = NEGLECTED * newest * found.amplification
    reach = found.ratio * share / 2.0  # the ratio is a square root
    return Estimate(balance.value, max(balance.low - reach, 0.0), balance.high + reach)


def newest_weight(known: Motion) -> float:
    """Mean weight of a step's own gradient in v̂: 1 - β2, and more while v̂ is young.

    Steps count from the start of the run; where the optimizer had run before, this is too large.
    """
    beta2 = known.hp.beta2
    if not beta2:
        return 0.0
    return float(((1.0 - beta2) / -np.expm1((known.steps + 1.0) * math.log(beta2))).mean())


def why_unsure(known: Motion, count: int, *, changed: bool) -> str:
    """Why a balance that could be computed says nothing; empty if it does.

    Args:
        known: for the settings of the steps whose terms are known.
        count: how many these are.
        changed: whether the change of the preconditioner was measured at any of them.
    """
    if count < FEWEST_TERMS:
        return f"{count} steps with their predecessors are too few for an interval"
    forgets, beta2 = 1.0 - _momentum(known), known.hp.beta2
    if beta2 is None or changed or 1.0 - beta2 <= FASTEST * forgets:
        return ""
    return (
        f"with β2 = {beta2:g} the preconditioner changes while the momentum lasts, and its change "
        "was not measured (record with products=8)"
    )


def _momentum(here: Motion) -> float:
    return float(here.momentum.max())


def _members_differ(mixed: Mixed) -> str:
    """Why the settings of one member do not stand for all; empty if they do.

    Different weight decay is no obstacle: `Motion.felt_decay` is its mean, and decay through the
    gradient is in each member's <w, Px>.
    """
    if not mixed:
        return ""
    rates, _, momenta = (len(set(column)) for column in zip(*mixed, strict=True))
    same = rates == momenta == 1
    return "" if same else "the members of this group have different rates or momenta"


def real_decay_share(here: Motion) -> float:
    """The weight decay that acts over the one that was set; NaN if none was."""
    nominal = float(here.weight_decay.sum())
    return float(here.felt_decay.sum()) / nominal if nominal else math.nan
