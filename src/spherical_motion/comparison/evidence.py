"""The numbers a verdict rests on: one group in one stage, measured against the theory.

Which steps are judged. From the norm at the start of the stage and the mean drive of its second
half, the transient says when the angle will be within 5% of equilibrium. If enough samples follow
that step, they are judged, against Δ*. If not, the last quarter of the stage is judged, against
the transient, and the verdict cannot be better than "approaching".

What the transient predicts. The linear law gives Δ²/Δ*² = y*/y = 1 + (d ln y/dt)/r for the
relaxing power y of the norm, so over a window it is enough to know how far the *predicted* norm
moves. The norm is predicted by driving the law with the measured unit gradient, so a gradient
that fades during the stage is accounted for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherical_motion import theory
from spherical_motion.comparison.series import Series, settling_memory
from spherical_motion.comparison.statistics import Estimate, rms_ratio, root_mean_ratio
from spherical_motion.errors import OutOfDomain
from spherical_motion.forecasting import WITHIN, rest_excess
from spherical_motion.vocabulary.groups import InvariantGroup
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule import Stage

__all__ = ["FEWEST_SAMPLES", "Evidence", "gather"]

FEWEST_SAMPLES = 20
"""Fewer samples than this are not judged."""

FEWEST_MEMORIES = 10
"""A settled stretch shorter than this many times 1/(1 - α) steps is not judged either."""

UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """Angles in radians; ratios, shares and defects are pure numbers; NaN where unknown.

    Attributes:
        group, stage: what is judged.
        samples: finite samples in the stage.
        non_finite: steps of the stage at which weights or gradient were NaN or infinite.
        non_finite_from: the first of them, or None.
        moved: whether any sampled step changed the weights.
        lr_is_zero, no_decay: settings under which there is nothing to balance.
        illegal: the first step whose settings no theory covers, or None.
        driven: samples at which the gradient, or whatever drives the norm, is known.
        norm_change: norm at the last sample over norm at the first.
        radial_share: what the loss adds to the pull of weight decay, as a share of it: mean <w, g>
            / (λ·mean |w|²) for L2; for AdamW, whose steps do not depend on the gradient's size,
            mean <w, g>/|g| · √numel / (λ·mean |w|²).
        defect: √(mean <w, g>² / mean |w|²|g|²) in this stage.
        expected_defect: what the norm layer's ε makes of the certified defect at this stage's
            smallest norm: it grows as 1/|w|².
        no_theory: why this optimizer has no prediction, or None.
        settled: enough samples lie where the transient is within 5% of equilibrium.
        steps_needed: steps from the start of the stage until it is, at the mean drive.
        steps_more: steps from its end until it is, at the latest drive; inf: cannot be said.
        drive_change: mean drive in the last quarter over that in the first.
        judged: number of samples judged.
        drift: relative change of the norm over them.
        measured: √(mean Δ²) over them.
        equilibrium: Δ*.
        transient: √(mean Δ²) the transient predicts for them.
        ratio: measured over predicted (Δ* if settled, else the transient).
        mean_ratio: mean Δ over predicted.
        step_law: √(mean D / mean R) over the RMS law's value (`theory.balance_terms`).
        residual: median residual of the law of motion.
        mixed: the different settings inside the group, if its members do not share one.
    """

    group: InvariantGroup
    stage: Stage
    samples: int
    non_finite: int
    moved: bool
    lr_is_zero: bool
    no_decay: bool
    illegal: int | None = None
    non_finite_from: int | None = None
    driven: int = 0
    norm_change: float = math.nan
    radial_share: float = math.nan
    defect: float = math.nan
    expected_defect: float = math.nan
    no_theory: str | None = None
    settled: bool = False
    steps_needed: float = math.inf
    steps_more: float = math.inf
    drive_change: float = math.nan
    judged: int = 0
    drift: float = math.nan
    measured: float = math.nan
    equilibrium: float = math.nan
    transient: float = math.nan
    ratio: Estimate = UNKNOWN
    mean_ratio: float = math.nan
    step_law: Estimate = UNKNOWN
    residual: float = math.nan
    mixed: tuple[tuple[float, float, float], ...] = ()

    @property
    def predicted(self) -> float:
        """The angle the judged samples are held against, rad."""
        return self.equilibrium if self.settled else self.transient

    def numbers(self) -> dict[str, float]:
        """All finite numbers by name, for `Verdict.evidence`."""
        found: dict[str, float] = {}
        for field in dataclasses.fields(self):
            value: Any = getattr(self, field.name)
            if isinstance(value, Estimate):
                found |= {field.name: value.value, f"{field.name}_low": value.low}
                found[f"{field.name}_high"] = value.high
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                found[field.name] = float(value)
        return {name: value for name, value in found.items() if math.isfinite(value)}


def gather(
    series: Series, stage: Stage, mixed: Sequence[tuple[float, float, float]] = ()
) -> Evidence:
    """Measure one group in one stage.

    Args:
        series: the group's whole run.
        stage: the steps to judge.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    here = series.within(stage.start, stage.stop)
    lost = (series.non_finite >= stage.start) & (series.non_finite < stage.stop)
    evidence = Evidence(
        group=series.group,
        stage=stage,
        samples=len(here),
        non_finite=int(lost.sum()),
        non_finite_from=int(series.non_finite[lost][0]) if lost.any() else None,
        moved=bool((here.gram.dd > 0).any()),
        lr_is_zero=bool(len(here)) and not here.lr.any(),
        no_decay=bool(len(here)) and not here.weight_decay.any(),
        illegal=int(here.steps[here.illegal.argmax()]) if here.illegal.any() else None,
        driven=here.driven,
        no_theory=series.no_theory,
        mixed=tuple(mixed),
    )
    if len(here) < 2 or not evidence.moved:
        return evidence
    judged, found = _judged(here, stage, evidence)
    return dataclasses.replace(
        evidence,
        norm_change=float(here.norm[-1] / here.norm[0]),
        residual=_median(here.residual),
        judged=len(judged),
        drift=float(judged.norm[-1] / judged.norm[0]) - 1.0,
        measured=_rms(judged.angle),
        **_invariance(judged, start_norm=float(series.norm[0])),
        **found,
    )


def _judged(here: Series, stage: Stage, evidence: Evidence) -> tuple[Series, dict[str, Any]]:
    """The samples to judge, and what the theory says of them."""
    tail = here[-max(len(here) // 4, min(FEWEST_SAMPLES, len(here))) :]
    if not here.predictable or evidence.no_decay:
        return tail, {}
    if stage.hp is None:
        return _varying(here)
    try:
        theory.family_of(stage.hp).angle(stage.hp, here.facts)
    except OutOfDomain as reason:
        return tail, {"no_theory": str(reason)}
    return _constant(here, tail, stage, stage.hp)


def _invariance(judged: Series, start_norm: float) -> dict[str, float]:
    """How invariant the group was at the judged samples."""
    gradient = np.isfinite(judged.gram.wg) & np.isfinite(judged.gram.gg) & (judged.gram.gg > 0)
    known = judged[gradient]
    gram = known.gram
    radial = pull = defect = math.nan
    if len(known):
        pull = float((known.weight_decay * gram.ww).mean())
        toward = gram.wg
        if known.hp.decoupled:  # what an adaptive step makes of the gradient: entries of size one
            toward = gram.wg / np.sqrt(gram.gg) * math.sqrt(known.group.numel)
        radial = float(toward.mean())
        defect = math.sqrt(float((gram.wg**2).mean() / (gram.ww * gram.gg).mean()))
    return {
        "radial_share": radial / pull if pull else math.nan,
        "defect": defect,
        "expected_defect": judged.group.defect * float(start_norm / judged.norm.min()) ** 2,
    }


def _varying(here: Series) -> tuple[Series, dict[str, Any]]:
    """A stage without one equilibrium: the driven recursion against all its samples."""
    squares = here.driven_step_ratio_sq(here.driven_norm())
    known = np.isfinite(squares)
    transient = math.sqrt(max(float(squares[known].mean()), 0.0))
    judged = here[known]
    return judged, {"transient": transient} | _ratios(judged, transient)


def _constant(
    here: Series, tail: Series, stage: Stage, hp: HyperParameters
) -> tuple[Series, dict[str, Any]]:
    """A stage with an equilibrium: when it is reached, and what the judged samples show."""
    family, facts = theory.family_of(hp), here.facts
    angle = family.angle(hp, facts)
    half, quarter = len(here) // 2, max(len(here) // 4, 1)
    needed = _steps_to_rest(hp, here.norm[0], _mean(here.drive[half:]), facts)
    needed = max(needed, settling_memory(hp))
    late = here.within(stage.start + needed, stage.stop)
    # Neighbouring steps are alike over 1/(1 - α) of them; fewer than ten such times say little.
    long_enough = stage.stop - stage.start - needed >= FEWEST_MEMORIES / (1.0 - hp.momentum)
    enough = len(late) >= FEWEST_SAMPLES and long_enough
    judged = late if enough else tail

    norms = here.driven_norm()
    transient = angle * _transient_share(hp, judged.steps, norms[-len(judged) :], facts)
    settled = enough and abs(transient / angle - 1.0) < WITHIN
    more = _steps_to_rest(hp, here.norm[-1], _mean(here.drive[-quarter:]), facts)
    if more == 0.0 and not settled:
        spacing = stage.steps / len(here)
        window = max(FEWEST_SAMPLES * spacing, FEWEST_MEMORIES / (1.0 - hp.momentum))
        more = max(needed + window - stage.steps, 1.0)
    early = _mean(here.drive[:quarter])
    found = {
        "settled": settled,
        "steps_needed": needed,
        "steps_more": 0.0 if settled else more,
        "drive_change": _mean(here.drive[-quarter:]) / early if early > 0 else math.nan,
        "equilibrium": angle,
        "transient": transient,
        "step_law": root_mean_ratio(*family.balance(hp, judged.gram, facts)),
    }
    return judged, found | _ratios(judged, angle if settled else transient)


def _ratios(judged: Series, predicted: float) -> dict[str, Any]:
    if not predicted > 0:
        return {}
    angle = judged.angle
    return {
        "ratio": rms_ratio(angle, predicted),
        "mean_ratio": float(angle.mean()) / predicted,
    }


def _steps_to_rest(
    hp: HyperParameters, norm: float, drive: float, facts: theory.GroupFacts
) -> float:
    """Steps until the angle is within 5% of Δ*, for a drive that stays as it is."""
    if not drive > 0:
        return math.inf
    excess = rest_excess(hp, norm, drive, **dataclasses.asdict(facts))
    return theory.family_of(hp).steps_to_within(hp, excess, WITHIN, facts)


def _transient_share(
    hp: HyperParameters, steps: Any, norms: Any, facts: theory.GroupFacts
) -> float:
    """RMS of Δ/Δ* over a window in which the predicted norm moves from its first to its last."""
    lasted = float(steps[-1] - steps[0])
    if lasted <= 0 or norms[-1] <= 0:
        return math.nan
    return math.sqrt(theory.family_of(hp).window_ratio_sq(hp, norms, lasted, facts))


def _rms(values: Any) -> float:
    return math.sqrt(float((values * values).mean()))


def _mean(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _median(values: Any) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else math.nan
