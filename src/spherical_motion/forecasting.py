"""Schedule × theory: what each stage of a planned run will do, before it is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule import Schedule, Stage

__all__ = ["Forecast", "StageForecast", "forecast"]

WITHIN = 0.05
"""A group counts as settled when its angle is within this share of equilibrium."""


@dataclasses.dataclass(frozen=True, slots=True)
class StageForecast:
    """What one stage will do. Angles in radians; NaN where the stage's settings vary.

    Attributes:
        stage: the steps it covers and its settings.
        equilibrium_angle: Δ*, what the angle tends to.
        angle_start, angle_end: the angle at its first and last step.
        norm_start, norm_end: the weights' norm there; NaN unless `forecast` was given L.
        steps_needed: steps until the angle is within 5% of Δ*; inf without an equilibrium.
        settles: whether the stage is long enough for that.
    """

    stage: Stage
    equilibrium_angle: float
    angle_start: float
    angle_end: float
    norm_start: float
    norm_end: float
    steps_needed: float
    settles: bool

    def __str__(self) -> str:
        span = f"steps {self.stage.start:,}-{self.stage.stop:,}"
        if self.stage.hp is None:
            return f"{span}: the settings vary, so there is no single equilibrium."
        if math.isnan(self.equilibrium_angle):
            return f"{span}: no equilibrium at {self.stage.settings}."
        head = f"{span}: equilibrium {self.equilibrium_angle:.3g} rad a step; "
        if self.settles:
            return head + f"within 5% of it after {self.steps_needed:,.0f} steps."
        share = self.angle_end / self.equilibrium_angle
        return head + (
            f"needs {self.steps_needed:,.0f} steps to come within 5% and has "
            f"{self.stage.steps:,}: its angle ends at {share:.2f} of equilibrium."
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """One `StageForecast` a stage; prints as sentences."""

    stages: tuple[StageForecast, ...]

    def __iter__(self) -> Iterator[StageForecast]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index: int) -> StageForecast:
        return self.stages[index]

    def __str__(self) -> str:
        return "\n".join(f"stage {i}: {s}" for i, s in enumerate(self.stages, start=1))


def forecast(
    schedule: Schedule,
    norm0: float | None = None,
    unit_grad_sq: float | None = None,
    *,
    numel: int | None = None,
) -> Forecast:
    """What angle and norm a scale-invariant group will have through a planned run.

    The norm is carried through the whole schedule by the linear law (`theory.driven_norm`) under
    a drive that does not change. Leading order in ηλ.

    Args:
        schedule: learning rate, weight decay and momentum of every step.
        norm0: norm of the group before the first step. Left out: it starts in the equilibrium
            of the first stage that has one.
        unit_grad_sq: L = E[h̃], SGD's drive. Left out: norms are not forecast, and `norm0`
            cannot be used; angles do not depend on it once the start is in equilibrium.
        numel: number of entries; AdamW's drive, in the place of `unit_grad_sq`.

    Raises:
        InvalidArgument: a norm without the drive that gives it a meaning, or a value <= 0.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> plan = Schedule.step_decay(hp, steps=450_000, milestones=[150_000, 300_000])
    >>> print(forecast(plan)[2])
    steps 300,000-450,000: equilibrium 0.000324 rad a step; needs 1,111,757 steps to come
    within 5% and has 150,000: its angle ends at 0.41 of equilibrium.
    """
    family = theory.family_of(schedule.hp)
    given = numel if family is theory.Family.ADAMW else unit_grad_sq
    name = "numel" if family is theory.Family.ADAMW else "unit_grad_sq"
    for label, value in (("norm0", norm0), (name, given)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidArgument(f"forecast({label}=...) must be finite and > 0, got {value}.")
    if norm0 is not None and given is None:
        raise InvalidArgument(
            f"forecast(norm0={norm0:g}) needs {name} too: whether a norm is large depends on the "
            f"drive. Pass {name}=..., or leave norm0 out to start in equilibrium."
        )
    drive = 1.0 if given is None else float(given)
    stages = schedule.stages()
    start = norm0 if norm0 is not None else _rest_of_first_stage(stages, drive, family)
    norms = theory.driven_norm(
        schedule.hp,
        start,
        lr=schedule.lr,
        weight_decay=schedule.weight_decay,
        momentum=schedule.momentum,
        drive=drive,
    )
    return Forecast(tuple(_of_stage(s, schedule, norms, drive, given is not None) for s in stages))


def rest_excess(hp: HyperParameters, norm: float, drive: float) -> float:
    """Excess y/y* of a group of this norm under this drive (L for SGD, numel for AdamW)."""
    rest = _norm_at_rest(hp, drive)
    return (norm / rest) ** theory.relaxing_power(hp)


def _norm_at_rest(hp: HyperParameters, drive: float) -> float:
    if theory.family_of(hp) is theory.Family.ADAMW:
        return theory.equilibrium_norm(hp, numel=round(drive))
    return theory.equilibrium_norm(hp, unit_grad_sq=drive)


def _has_equilibrium(hp: HyperParameters | None) -> bool:
    if hp is None:
        return False
    try:
        theory.equilibrium_angle(hp)
    except OutOfDomain:
        return False
    return True


def _rest_of_first_stage(stages: tuple[Stage, ...], drive: float, family: theory.Family) -> float:
    for stage in stages:
        if stage.hp is not None and _has_equilibrium(stage.hp):
            return _norm_at_rest(stage.hp, drive)
    raise InvalidArgument(
        "forecast: no stage of this schedule has an equilibrium to start from (constant lr > 0 "
        f"and weight decay > 0 over at least 20 steps, {family.value}). Pass norm0 and its drive."
    )


def _of_stage(
    stage: Stage, schedule: Schedule, norms: NDArray[np.float64], drive: float, absolute: bool
) -> StageForecast:
    first, last = stage.start - schedule.start, stage.stop - schedule.start
    ends = [float(norms[first]), float(norms[last])] if absolute else [math.nan, math.nan]
    hp = stage.hp
    if hp is None or not _has_equilibrium(hp):
        return StageForecast(
            stage, math.nan, math.nan, math.nan, ends[0], ends[1], math.inf, settles=False
        )
    excess = [rest_excess(hp, float(norms[i]), drive) for i in (first, last)]
    angles = theory.angle_at_excess(hp, excess)
    needed = math.ceil(theory.steps_to_within(hp, excess[0], WITHIN))
    return StageForecast(
        stage,
        theory.equilibrium_angle(hp),
        float(angles[0]),
        float(angles[1]),
        ends[0],
        ends[1],
        needed,
        settles=needed <= stage.steps,
    )
