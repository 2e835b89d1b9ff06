"""The evidence for a verdict: one class for each state of a group.

A rule asks with `isinstance` for the variant whose numbers it needs, so a number that does not
apply does not exist; NaN means that the records do not determine it.
"""

from __future__ import annotations

import dataclasses
import functools
import math

from spherical_motion.comparison.forces import Forces, TugOfWar
from spherical_motion.comparison.laws import (
    Assumed,
    Continuity,
    HiddenBeside,
    Mend,
    RadialLaw,
    ScaleChange,
    Silence,
    Spike,
    Stale,
    StepLaw,
)
from spherical_motion.comparison.laws.audited import AuditedSteps
from spherical_motion.comparison.laws.planned import Planned
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import InvariantGroup, Stage

BAND = 0.10
"""The angle is the predicted one if the 95% interval of their ratio lies within 1 ± this."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Laws:
    """What each law says of a group in a stage, as `comparison.laws` finds it.

    Attributes:
        continuity, step, radial, silence, stale: what its own records say.
        mends: the single settings that would bring the balance law to 1.
        scale_changes: where the gradients of all groups changed their size at once, in this stage.
        spike: the largest single gradient many times the usual size, in this stage.
        hidden_beside: decay in the gradients of the certified groups that share this plain group's
            optimizer; None if there is none.
        part_alive: whether another group of the same tensor has a gradient where this one has none.
        all_dead: whether no group of the run has a gradient any more where this one has none.
        audited: what the replay of single steps says; of no steps if there was no audit.
        plan: the rates beside the planned ones; None without a plan.
        assumed: what the prediction of the angle takes for granted, beside what was measured.
        left_behind: (step, why) from which on the optimizer does not step these weights any more.
        stepped_by: (step, class) of another optimizer that steps them as well.
    """

    continuity: Continuity = dataclasses.field(default_factory=Continuity)
    step: StepLaw = dataclasses.field(default_factory=StepLaw)
    radial: RadialLaw = dataclasses.field(default_factory=RadialLaw)
    silence: Silence = dataclasses.field(default_factory=Silence)
    stale: Stale = dataclasses.field(default_factory=Stale)
    mends: tuple[Mend, ...] = ()
    scale_changes: tuple[ScaleChange, ...] = ()
    spike: Spike | None = None
    hidden_beside: HiddenBeside | None = None
    part_alive: bool = False
    all_dead: bool = False
    audited: AuditedSteps = dataclasses.field(default_factory=AuditedSteps)
    plan: Planned | None = None
    assumed: Assumed = dataclasses.field(default_factory=Assumed)
    left_behind: tuple[int, str] | None = None
    stepped_by: tuple[int, str] | None = None


NO_LAWS = Laws()
"""No law was tested."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The numbers that exist for any group in any stage.

    Attributes:
        samples: finite samples in the stage.
        non_finite: steps of the stage at which weights or gradient were NaN or infinite.
        non_finite_from: the first of them, or None.
        moved: whether any sampled step changed the weights.
        lr_is_zero, no_decay: settings that leave nothing to balance.
        illegal: the first step whose settings no theory covers, or None.
        driven: samples at which the drive of the norm is known, most often the gradient.
        no_theory: why this optimizer has no prediction, or None.
        mixed: the different settings inside the group, if its members do not share one.
        judged: number of samples judged.
        band: the angle's ratio must lie within 1 ± this.
        laws: what each law says.
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
    no_theory: str | None = None
    mixed: tuple[tuple[float, float, float], ...] = ()
    judged: int = 0
    band: float = BAND
    laws: Laws = NO_LAWS

    def numbers(self) -> dict[str, float]:
        """All finite numbers by name, for `Verdict.evidence`."""
        return _numbers(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NotJudged(Evidence):
    """The weights did not move, or fewer than two samples exist."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Evidence):
    """The weights moved. `Measured` itself has no prediction, for lack of decay or theory.

    Attributes:
        norm_change: norm at the last sample over norm at the first.
        residual: median residual of the law of motion.
        drift: relative change of the norm over the judged samples.
        measured: √(mean Δ²) over them, rad.
        radial_share: the loss's radial pull over that of weight decay: mean <w, g> / (λ·mean |w|²)
            for L2; for AdamW, whose steps do not depend on the gradient's size,
            mean <w, g>/|g| · √numel / (λ·mean |w|²).
        defect: √(mean <w, g>² / mean |w|²|g|²) over the judged samples.
        expected_defect: the certified defect at the smallest norm judged; the norm layer's ε makes
            it grow as 1/|w|².
        tug: the balance law, which holds at rest or not, for every kind of group.
        lasted: steps from the first judged sample to the last.
        memory: 1/(1 - α) at the largest momentum of the stage.
        prediction_error: relative error of what is predicted; 0 unless that is approximate.
        correlation, bursts: c of the group's updates, and how many bursts measured it.
    """

    norm_change: float
    residual: float
    drift: float
    measured: float
    radial_share: float
    defect: float
    expected_defect: float
    tug: TugOfWar
    lasted: float
    memory: float
    prediction_error: float
    correlation: float
    bursts: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rest:
    """The equilibrium of a stage with constant settings, and when it is reached.

    Attributes:
        equilibrium: Δ*, rad.
        steps_needed: steps from the start of the stage until the transient is within 5% of it, at
            the mean drive.
        steps_more: steps from the stage's end until it is, at the latest drive; 0 if it is already;
            inf: cannot be said.
        drive_change: mean square of the gradient's drive in the last quarter over that in the
            first; of the unit gradient where the drive is not above 0 in both.
        step_law: √(mean D / mean R) over the RMS law's value (`theory.balance_terms`).
        steps_to_judge: steps that the stage lacks to judge the equilibrium; 0 or less: none.
        rest_norm: norm at which it will rest under the measured pull of decay and loss.
        rest_angle: angle by which it will turn there, rad.
    """

    equilibrium: float
    steps_needed: float
    steps_more: float
    drive_change: float
    step_law: Estimate
    steps_to_judge: float = math.nan
    rest_norm: float = math.nan
    rest_angle: float = math.nan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Predicted(Measured):
    """The judged samples compared with a predicted angle.

    Attributes:
        transient: √(mean Δ²) that the transient predicts for them, rad.
        ratio: measured over predicted.
        mean_ratio: mean Δ over predicted.
        rest: the equilibrium; None where the settings vary.
    """

    transient: float
    ratio: Estimate
    mean_ratio: float
    rest: Rest | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Approaching(Predicted):
    """Judged against the transient: the equilibrium is not reached, or moves with the settings."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Predicted):
    """Enough samples lie where the transient is within 5% of equilibrium: judged against that."""

    rest: Rest


@functools.cache
def _names(kind: type[Evidence | Rest | TugOfWar | Forces]) -> tuple[str, ...]:
    """Fields that may hold numbers; `band` is a setting, and no evidence."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.name != "band")


def _numbers(part: Evidence | Rest | TugOfWar | Forces) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in _names(type(part)):
        value: object = getattr(part, name)
        if type(value) is float:
            found[name] = value
        elif isinstance(value, (Rest, TugOfWar)):
            found |= _numbers(value)
        elif isinstance(value, Forces):
            found |= {f"{force}_rate": rate for force, rate in _numbers(value).items()}
        elif isinstance(value, Estimate):
            found |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value)
    return {name: value for name, value in found.items() if math.isfinite(value)}
