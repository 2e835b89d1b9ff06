"""The numbers a verdict rests on: one group in one stage, measured against the theory.

The judged steps. From the norm at the start of the stage and the mean drive of its second
half, the transient says when the angle will be within 5% of equilibrium. If enough samples follow
that step, they are judged, against Δ*. If not, the last quarter of the stage is judged, against
the transient, and the verdict cannot be better than "approaching".

Steps at which the group stood still, without a gradient or at a rate of 0, are left out.

The transient's prediction. The linear law gives Δ²/Δ*² = y*/y = 1 + (d ln y/dt)/r for the
relaxing power y of the norm, so over a window it is enough to know how far the *predicted* norm
moves. The norm is predicted by driving the law with the measured unit gradient, so a gradient
that fades during the stage is accounted for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.balance import balance_window, tug_of_war
from spherical_motion.comparison.evidence import (
    BAND,
    NO_LAWS,
    Approaching,
    Evidence,
    Laws,
    Measured,
    NotJudged,
    Rest,
    Settled,
)
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.resting import with_pull
from spherical_motion.comparison.statistics import rms_ratio, root_mean_ratio
from spherical_motion.errors import InvalidArgument
from spherical_motion.estimates import Estimate
from spherical_motion.forecasting.state import WITHIN, excess_under
from spherical_motion.vocabulary import HyperParameters, Stage

Array = NDArray[np.float64]

FEWEST_SAMPLES = 20
"""Fewer samples than this are not judged."""

MOMENTUM_MEMORIES = 3
"""After a change of settings the momentum buffer needs this many times 1/(1 - α) steps."""

FEWEST_MEMORIES = 10
"""A settled stretch shorter than this many times 1/(1 - α) steps is not judged either."""


def gather(
    motion: Motion,
    stage: Stage,
    mixed: Sequence[tuple[float, float, float]] = (),
    *,
    laws: Laws = NO_LAWS,
    tug: TugOfWar | None = None,
    band: float = BAND,
) -> Evidence:
    """Measure one group in one stage.

    Args:
        motion: the group's whole run.
        stage: the steps to judge.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
        laws: what each law says of them.
        tug: `tug_of_war` of the first three, if it is at hand.
        band: the ratio of the angle must lie within 1 ± this.
    """
    here = motion.within(stage.start, stage.stop)
    lost = (motion.non_finite >= stage.start) & (motion.non_finite < stage.stop)
    seen = NotJudged(
        group=motion.group,
        stage=stage,
        samples=len(here),
        non_finite=int(lost.sum()),
        non_finite_from=int(motion.non_finite[lost][0]) if lost.any() else None,
        moved=bool((here.gram.dd > 0).any()),
        lr_is_zero=bool(len(here)) and not here.lr.any(),
        no_decay=bool(len(here)) and not here.weight_decay.any(),
        illegal=int(here.steps[here.illegal.argmax()]) if here.illegal.any() else None,
        driven=here.driven,
        no_theory=motion.no_theory,
        mixed=tuple(mixed),
        band=band,
        laws=laws,
    )
    if len(here) < 2 or not seen.moved:
        return seen
    here, lasted = _moving(here, stage)
    variant, judged, found = _judged(here, lasted, seen)
    known: dict[str, Any] = {f.name: getattr(seen, f.name) for f in dataclasses.fields(seen)}
    known |= {
        "judged": len(judged),
        "norm_change": float(here.norm[-1] / here.norm[0]),
        "residual": _mean(here.residual, np.median),
        "drift": float(judged.norm[-1] / judged.norm[0]) - 1.0,
        "measured": math.sqrt(float((judged.angle * judged.angle).mean())),
        "lasted": float(judged.steps[-1] - judged.steps[0]) + 1.0,
        "memory": _memory(judged),
    }
    known["tug"] = tug = tug_of_war(motion, stage, mixed) if tug is None else tug
    if stage.hp is not None and (rest := found.get("rest")) is not None:
        found["rest"] = with_pull(rest, stage.hp, tug, judged)
    memory = motion.memory if motion.prediction_error else None
    known |= {
        "prediction_error": motion.prediction_error,
        "correlation": memory.correlation if memory else math.nan,
        "bursts": memory.bursts if memory else 0,
    }
    known |= _invariance(judged, start_norm=float(motion.norm[0]))
    return variant(**(known | found))


def _moving(here: Motion, stage: Stage) -> tuple[Motion, Stage]:
    """The samples at which the weights moved, with the steps in which they stood still left out.

    A group without a gradient, or with a rate of 0, stands still, and so does everything that the
    theory says of it: time goes on where it moves again. Each sample stands for the steps up to the
    next one.
    """
    still = here.gram.dd == 0.0
    if not still.any() or (~still).sum() < 2:
        return here, stage
    lasts = np.where(still, np.diff(here.steps, append=stage.stop), 0)
    steps = here.steps - (np.cumsum(lasts) - lasts)
    moving = dataclasses.replace(here, steps=steps)[~still]
    return moving, dataclasses.replace(stage, stop=stage.stop - int(lasts.sum()))


Found = tuple[type[Measured], Motion, dict[str, Any]]
"""A variant of evidence, the samples to judge, and the theory's numbers for them."""


def _judged(here: Motion, stage: Stage, seen: Evidence) -> Found:
    tail = here[-max(len(here) // 4, min(FEWEST_SAMPLES, len(here))) :]
    if seen.group.kind == "plain":
        window = balance_window(here, stage)
        return Measured, window if len(window) > 1 else tail, {}
    if not here.predictable or seen.no_decay:
        return Measured, tail, {}
    try:
        if stage.hp is None:
            return _varying(here)
        facts = here.facts
        angle = theory.family_of(stage.hp).angle(stage.hp, facts)
    except InvalidArgument as reason:  # out of the formulas' domain, or a fact no record holds
        return Measured, tail, {"no_theory": str(reason)}
    return _constant(here, tail, stage, stage.hp, angle, facts)


def _invariance(judged: Motion, start_norm: float) -> dict[str, float]:
    """How invariant the group was at the judged samples."""
    gradient = np.isfinite(judged.gram.wg) & np.isfinite(judged.gram.gg) & (judged.gram.gg > 0)
    known = judged[gradient]
    gram = known.gram
    radial = pull = defect = math.nan
    if len(known):
        pull = float((known.weight_decay * gram.ww).mean())
        toward = gram.wg
        if known.hp.decoupled:  # an adaptive step scales the gradient's entries to size one
            toward = gram.wg / np.sqrt(gram.gg) * math.sqrt(known.group.numel)
        radial = float(toward.mean())
        defect = math.sqrt(float((gram.wg**2).mean() / (gram.ww * gram.gg).mean()))
    return {
        "radial_share": radial / pull if pull else math.nan,
        "defect": defect,
        "expected_defect": judged.group.defect * float(start_norm / judged.norm.min()) ** 2,
    }


def _varying(here: Motion) -> Found:
    """A stage without one equilibrium: the driven recursion against all its samples."""
    facts = here.facts
    squares = here.driven_step_ratio_sq(here.driven_norm(facts), facts)
    known = np.isfinite(squares)
    square = float(squares[known].mean()) if known.any() else math.nan
    transient = math.sqrt(square) if square >= 0.0 else math.nan
    judged = here[known]
    found = {"transient": transient, "rest": None} | _ratios(judged, transient, squares[known])
    return Approaching, judged, found


def _constant(
    here: Motion, tail: Motion, stage: Stage, hp: HyperParameters, angle: float,
    facts: theory.GroupFacts,
) -> Found:  # fmt: skip
    """A stage with an equilibrium: the time to it, and the numbers of the judged samples."""
    family = theory.family_of(hp)
    half, quarter = len(here) // 2, max(len(here) // 4, 1)
    needed = steps_to_rest(hp, here.norm[0], _mean(here.drive[half:]), facts)
    needed = max(needed, MOMENTUM_MEMORIES / (1.0 - hp.momentum))
    late = here.within(stage.start + needed, stage.stop)
    # Neighbouring steps are alike over 1/(1 - α) of them; fewer than ten such times say little.
    long_enough = stage.stop - stage.start - needed >= FEWEST_MEMORIES / (1.0 - hp.momentum)
    enough = len(late) >= FEWEST_SAMPLES and long_enough
    judged = late if enough else tail

    driven = here.driven_norm(facts)
    norms = driven[-len(judged) :]
    lasted = float(judged.steps[-1] - judged.steps[0])
    transient = math.nan
    if lasted > 0 and norms[-1] > 0:
        # RMS of Δ/Δ* over a window in which the predicted norm moves from its first to its last.
        transient = angle * math.sqrt(family.window_ratio_sq(hp, norms, lasted, facts))
    settled = enough and abs(transient / angle - 1.0) < WITHIN
    more = 0.0
    if not settled:
        more = steps_to_rest(hp, here.norm[-1], _mean(here.drive[-quarter:]), facts)
    window = window_to_judge(stage, hp, len(here))
    rest = Rest(
        equilibrium=angle,
        steps_needed=needed,
        steps_more=more,
        drive_change=_drive_change(here, quarter),
        step_law=root_mean_ratio(*family.balance(hp, judged.gram, facts)),
        steps_to_judge=needed + window - stage.steps,
    )
    found = {"transient": transient, "rest": rest}
    if settled:
        found |= _ratios(judged, angle)
    else:
        course = here.driven_step_ratio_sq(driven, facts)[-len(judged) :]
        found |= _ratios(judged, transient, course)
    return Settled if settled else Approaching, judged, found


def window_to_judge(stage: Stage, hp: HyperParameters, samples: int) -> float:
    """How many steps near rest it takes to judge an equilibrium, at this spacing of samples."""
    return max(FEWEST_SAMPLES * stage.steps / samples, FEWEST_MEMORIES / (1.0 - hp.momentum))


def _memory(judged: Motion) -> float:
    """1/(1 - α) at the largest momentum that a theory covers."""
    legal = judged.momentum[~judged.illegal]
    return 1.0 / (1.0 - float(legal.max())) if legal.size else math.nan


def _drive_change(here: Motion, quarter: int) -> float:
    """The drive of the last quarter over that of the first, a positive number or NaN."""
    gradient = here.gram.ww * here.gram.gg
    for drive in (here.drive, gradient):  # h̃ holds <v, g>, whose mean may be below 0
        early, late = _mean(drive[:quarter]), _mean(drive[-quarter:])
        if early > 0 and late > 0:
            return late / early
    return math.nan


def _ratios(judged: Motion, predicted: float, course: Array | None = None) -> dict[str, Any]:
    """Measured over predicted angle.

    Args:
        judged: the samples.
        predicted: what is predicted of their RMS angle.
        course: predicted squares of single steps, up to a factor: where settings or norm change on
            the way, they change with the measured ones, and only what is left is chance.
    """
    if not 0.0 < predicted <= math.pi:
        return {"ratio": Estimate(), "mean_ratio": math.nan}
    mean_ratio = float(judged.angle.mean()) / predicted
    ratio = rms_ratio(judged.angle, predicted)
    if course is not None and (known := np.isfinite(course)).any():
        paired = root_mean_ratio(judged.angle[known] ** 2, course[known])
        if paired.value > 0:  # the same relative interval
            scale = ratio.value / paired.value
            ratio = Estimate(ratio.value, paired.low * scale, paired.high * scale)
    ratio = ratio.widened(judged.prediction_error)
    return {"ratio": ratio, "mean_ratio": mean_ratio}


def steps_to_rest(
    hp: HyperParameters, norm: float, drive: float, facts: theory.GroupFacts
) -> float:
    """Steps until the angle is within 5% of Δ*, for a drive that stays as it is."""
    if not drive > 0:
        return math.inf
    excess = excess_under(hp, norm, drive, facts)
    return theory.family_of(hp).steps_to_within(hp, excess, WITHIN, facts)


def _mean(values: Array, average: Callable[[Array], Any] = np.mean) -> float:
    """The mean, or another average, of the finite values."""
    known = values[np.isfinite(values)]
    return float(average(known)) if known.size else math.nan
