"""A schedule carried through the theory, stage by stage, before it is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from spherical_motion import checks
from spherical_motion.checks import held, number
from spherical_motion.errors import InvalidArgument
from spherical_motion.forecasting.former import FormerRun
from spherical_motion.forecasting.pulled import Pull, planned_pull, pulled_schedule
from spherical_motion.forecasting.pulled_stages import nothing_inward, with_pulls
from spherical_motion.forecasting.remedies import find_remedy
from spherical_motion.forecasting.stages import Outcome, StageForecast
from spherical_motion.forecasting.state import (
    WITHIN,
    excess_under,
    has_equilibrium,
    norm_at_rest,
    whole_steps,
    with_drive,
)
from spherical_motion.theory import Family, GroupFacts, family_of
from spherical_motion.theory.driven import norms_under, step_ratios_under
from spherical_motion.theory.group import Fact
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule import Schedule, Stage

SAMPLES = 256
"""Number of steps of a varying stage at which its moving equilibrium is computed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """One `StageForecast` a stage; prints as sentences.

    Attributes:
        stages: in order.
        start: where the first norm comes from, in words.
        assumed: whether that is no norm that was given or measured, but a start at rest.
        doubt: why the former run that it rests on is not to be relied on; empty if nothing speaks
            against it.
    """

    stages: tuple[StageForecast, ...]
    start: str
    assumed: bool = True
    doubt: str = ""

    def __iter__(self) -> Iterator[StageForecast]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index: int) -> StageForecast:
        return self.stages[index]

    def __str__(self) -> str:
        lines = [f"stage {i}: {s}" for i, s in enumerate(self.stages, start=1)]
        return "\n".join([*lines, *([f"Do not rely on it: {self.doubt}."] if self.doubt else [])])

    @property
    def guess(self) -> bool:
        """Whether it rests on a pull that changes as the norm does."""
        return any(stage.guess for stage in self.stages)

    @property
    def falling_short(self) -> tuple[StageForecast, ...]:
        """The stages that have an equilibrium and end before they reach it."""
        return tuple(s for s in self.stages if s.outcome is Outcome.FALLS_SHORT)


@checks.validated
def forecast(
    schedule: Schedule, norm0: float | None = None, *,
    pull: Pull | None = None, group: str | None = None,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> Forecast:  # fmt: skip
    """What angle and norm a scale-invariant group will have through a planned run.

    The norm is carried through the whole schedule by the law of `theory.driven_norm`, at every
    step, under a drive that does not change. Leading order in ηλ.

    Args:
        schedule: learning rate, weight decay and momentum of every step.
        norm0: norm of the group before the first step. Left out: the norm at the end of `pull`'s
            records; without records the group starts at rest under the settings of the first stage
            that has an equilibrium, or if none has, of the step with the highest learning rate.
        pull: how strongly decay and loss draw the weights inward, from a former run, in units of
            weight decay: `Row.pull` as a number for all stages, a mapping from the number of a
            stage (from 1) to it, or the `Records` of that run. Then each stage has the pull that
            `compare` prints for the run's stage of that number (the last one for all later), with
            the planned weight decay instead of the run's; and the plan goes on from the run's last
            norm, under a drive that makes the steps as long as its late ones were.
            Where it is below 0 nothing holds the norm, and the forecast of the norm takes it as 0.
            The balance law predicts from it for every weight. The norm and the time to rest take
            the pull to stay as it is, which for weights that are not scale-invariant is a guess.
        group: the group of `pull`'s records.
        unit_grad_sq ... update_sq: facts of the group, as in `theory.equilibrium_norm`. Without
            the drive, norms are not forecast and `norm0` cannot be used; the angles do not depend
            on it once the start is at rest. Records give the drive themselves.

    Raises:
        InvalidArgument: a norm without the drive that gives it a meaning, or a value <= 0; records
            that lack the pull, or of another optimizer.
        NoTheory: no closed form for this optimizer.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> plan = Schedule.step_decay(hp, steps=450_000, milestones=[150_000, 300_000])
    >>> print(forecast(plan)[2])
    steps 300,000-450,000: equilibrium 0.000324 rad a step; needs at least 581,163 steps,
    1,111,740 to come within 5%, and has 150,000: its angle ends 2.46 × below. Rescale its
    weights by 0.559 at its start, or raise its weight decay × 11.7, which raises the
    equilibrium × 3.4 too.

    A loss that cancels half of the decay leaves 1/√2 of the angle:

    >>> print(forecast(Schedule.constant(hp, 2_000_000), pull=5e-5)[0])
    steps 0-2,000,000: pull 5e-05; equilibrium 0.00229 rad a step; within 5% of it throughout.
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    asked, planned = schedule, None
    start = "the given norm"
    if pull is not None:
        planned = planned_pull(schedule, pull, group)
        schedule = pulled_schedule(schedule, planned.each)
        if planned.former is not None:
            facts = _with_drive_of(planned.former, schedule.hp, facts)
            if norm0 is None:
                norm0, start = planned.former.norm, planned.former.ending
        elif norm0 is None and not (planned.each * schedule.lr > 0).any():
            raise InvalidArgument(nothing_inward(planned.each, family_of(schedule.hp).drive))
    elif group is not None:
        raise InvalidArgument(f"forecast(group={group!r}) needs pull=, the records of a run.")
    hp, family = schedule.hp, family_of(schedule.hp)
    drive = getattr(facts, family.drive)
    _check_start(family, norm0, drive)
    known = with_drive(hp, drive or 1.0, facts)
    found = _Run(schedule, norm0, drive, known, asked.stages(), start).forecast()
    if planned is None:
        return found
    stages = with_pulls(found.stages, asked, planned, known)
    return dataclasses.replace(found, stages=stages, doubt=planned.doubt)


def _check_start(family: Family, norm0: float | None, drive: float | None) -> None:
    """Refuse a norm without the drive that gives it a meaning, and what is not > 0."""
    for name, value in (("norm0", norm0), (family.drive, drive)):
        if value is not None:
            number("forecast", name, value, above=0.0)
    if norm0 is not None and drive is None:
        raise InvalidArgument(
            f"forecast(norm0={norm0:g}) needs {family.drive} too: whether a norm is large depends "
            f"on the drive. Pass {family.drive}=..., or leave norm0 out to start in equilibrium."
        )
    if drive is None and family.drive in family.needs:
        raise InvalidArgument(
            f"forecast: under {family.name} the angle depends on {family.drive}. Pass "
            f"{' and '.join(f'{name}=...' for name in family.needs)}."
        )


def _with_drive_of(former: FormerRun, hp: HyperParameters, facts: GroupFacts) -> GroupFacts:
    """The facts with the run's drive, if the user gave none."""
    if getattr(facts, family_of(hp).drive) is not None:
        return facts
    return with_drive(hp, former.drive(hp, facts), facts)


class _Run:
    """One schedule, the norm before each of its steps, and what is known of the group."""

    def __init__(
        self, schedule: Schedule, norm0: float | None, drive: float | None, known: GroupFacts,
        stages: Sequence[Stage], start: str,
    ) -> None:  # fmt: skip
        self.schedule, self.known = schedule, known
        self.absolute = drive is not None
        self.drive = drive or 1.0
        self.stages = [
            stage if stage.hp is None else dataclasses.replace(stage, hp=schedule.at(stage.start))
            for stage in stages
        ]
        self.start, self.assumed = start, norm0 is None
        if norm0 is None:
            rest, self.start = self._resting_place()
            norm0 = norm_at_rest(rest, self.drive, known)
        s = Steps(schedule.lr, schedule.weight_decay, schedule.momentum)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self.norms = norms_under(schedule.hp, norm0, s, self.drive, 1.0, known)
        held("forecast", self.norms, "Check norm0 and the drive.")

    def forecast(self) -> Forecast:
        stages = tuple(self._of_stage(stage) for stage in self.stages)
        return Forecast(stages, self.start, self.assumed)

    def _resting_place(self) -> tuple[HyperParameters, str]:
        for i, stage in enumerate(self.stages, start=1):
            if stage.hp is not None and has_equilibrium(stage.hp, self.known):
                return stage.hp, f"at rest under the settings of stage {i}"
        schedule = self.schedule
        decayed = np.where(schedule.weight_decay > 0, schedule.lr, 0.0)
        highest = schedule.at(schedule.start + int(np.argmax(decayed)))
        if has_equilibrium(highest, self.known):
            return highest, f"at rest under its highest learning rate, {highest.lr:g}"
        raise InvalidArgument(
            "forecast: this schedule has no equilibrium to start from (lr > 0 and weight decay > 0 "
            f"at one step at least). Pass norm0 and {family_of(schedule.hp).drive}."
        )

    def _of_stage(self, stage: Stage) -> StageForecast:
        first, last = stage.start - self.schedule.start, stage.stop - self.schedule.start
        s = Steps(self.schedule.lr[first:last], math.nan, self.schedule.momentum[first:last])
        norms_before, hp = self.norms[first:last], self.schedule.hp
        squares = step_ratios_under(hp, norms_before, s, self.drive, self.known)
        angles = np.arctan(np.sqrt(squares))
        norms = float(self.norms[first]), float(self.norms[last])
        common = StageForecast(
            stage=stage,
            outcome=Outcome.NO_EQUILIBRIUM if stage.hp is not None else Outcome.VARIES,
            angle_start=float(angles[0]),
            angle_end=float(angles[-1]),
            angle_peak=float(angles.max()),
            norm_start=norms[0] if self.absolute else math.nan,
            norm_end=norms[1] if self.absolute else math.nan,
        )
        if stage.hp is None:
            return self._varying(common)
        if not has_equilibrium(stage.hp, self.known):
            return common
        return self._constant(common, stage.hp, norms)

    def _constant(
        self, common: StageForecast, hp: HyperParameters, norms: tuple[float, float]
    ) -> StageForecast:
        family = family_of(hp)
        excess = [excess_under(hp, norm, self.drive, self.known) for norm in norms]
        angles = family.angle_at_excess(hp, np.array(excess), self.known)
        needed = whole_steps(family.steps_to_within(hp, excess[0], WITHIN, self.known))
        pulled = family.unopposed_time(excess[0]) / family.relaxation_rate(hp, self.known)
        settles = needed <= common.stage.steps
        rest = family.angle(hp, self.known)
        if not settles and abs(angles[1] / rest - 1.0) < WITHIN:
            # The linear law hurries; its course takes as long as the exact recursion does.
            by_law = family.steps_by_linear_law(hp, excess[0], WITHIN, self.known)
            time = family.relaxation_rate(hp, self.known) * by_law * common.stage.steps / needed
            excess[1] = float(family.excess_after(np.array(excess[0]), np.array(time)))
            angles = family.angle_at_excess(hp, np.array(excess), self.known)
        return dataclasses.replace(
            common,
            outcome=Outcome.SETTLES if settles else Outcome.FALLS_SHORT,
            equilibrium_angle=rest,
            norm_at_rest=norm_at_rest(hp, self.drive, self.known) if self.absolute else math.nan,
            angle_start=float(angles[0]),
            angle_end=float(angles[1]),
            angle_peak=float(max(angles)),
            excess_start=excess[0],
            excess_end=excess[1],
            steps_at_least=whole_steps(pulled),
            steps_needed=needed,
            share_settled=max(0.0, 1.0 - needed / common.stage.steps),
            settled_until=common.stage.stop if settles else math.nan,
            remedy=None
            if settles
            else find_remedy(hp, norms[0], self.drive, self.known, common.stage.steps),
        )

    def _varying(self, common: StageForecast) -> StageForecast:
        """Compare the angle with the equilibrium of each step's own settings, at sampled steps."""
        stage = common.stage
        sampled = np.unique(np.linspace(stage.start, stage.stop - 1, SAMPLES).round().astype(int))
        settled: list[int] = []
        equilibrium = excess = math.nan
        for step in sampled.tolist():
            hp = self.schedule.at(step)
            if not has_equilibrium(hp, self.known):
                continue
            norm = float(self.norms[step - self.schedule.start])
            excess = excess_under(hp, norm, self.drive, self.known)
            equilibrium = family_of(hp).angle(hp, self.known)
            angle = float(family_of(hp).angle_at_excess(hp, excess, self.known))
            if abs(angle / equilibrium - 1.0) < WITHIN:
                settled.append(step)
        known = math.isfinite(equilibrium)
        return dataclasses.replace(
            common,
            equilibrium_angle=equilibrium,
            excess_end=excess,
            share_settled=len(settled) / len(sampled) if known else math.nan,
            settled_until=settled[-1] + 1.0 if settled else math.nan,
        )
