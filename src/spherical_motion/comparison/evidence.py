"""The evidence for a verdict: one class for each state of a group.

A rule asks with `isinstance` for the variant whose numbers it needs, so a number that does not
apply does not exist; NaN means that the records do not determine it.
"""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.estimates import NO_ESTIMATE, Estimate
from spherical_motion.vocabulary import InvariantGroup, Stage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forces:
    """What moves a group's norm: relative changes of |w| in a step, on average; NaN if unknown.

    They add up by the balance law: growth = turning - inward - change. Where a part is not
    measured, as the change of Adam's preconditioner without `products=8`, `unexplained` is left.

    Attributes:
        inward: by which weight decay and the loss shorten the weights together; below 0 they
            lengthen them.
        decay, loss: the two parts of it; NaN where they cannot be told apart.
        turning: by which the steps lengthen the weights because they point sideways; with it what
            momentum carries over the two ends of the window.
        change: by which the change of the optimizer's preconditioner shortens them.
        growth: by which the norm grew: ln(|w_end|/|w_start|) over the steps of the window.
    """

    inward: float = math.nan
    decay: float = math.nan
    loss: float = math.nan
    turning: float = math.nan
    change: float = math.nan
    growth: float = math.nan

    @property
    def unexplained(self) -> float:
        """What the parts leave of the growth; NaN if they are not known."""
        change = 0.0 if math.isnan(self.change) else self.change
        return self.growth - (self.turning - self.inward - change)

    @property
    def known(self) -> tuple[float, ...]:
        """Those that are known."""
        return tuple(x for x in dataclasses.astuple(self) if math.isfinite(x))


NO_FORCES = Forces()
"""Nothing is known of what moves the norm."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TugOfWar:
    """The balance law of one group in one stage: who pulls its norm in, and what that turns.

    `balance` is over all judged steps of the stage; pull, decay_share, growth and forces describe
    now: the last quarter of them (`theory.late_pull`).

    Attributes:
        balance: √(Σ turned / Σ law), measured over predicted turning, with the boundary term.
        pull: p, by which decay and loss draw the weights inward together, in units of the weight
            decay; a loss without a radial part leaves p = λ.
        decay_share: λ/p; above 1 the loss works against the decay. Its upper end is infinite where
            the pull's interval reaches 0, and it is unknown where the pull itself is not above 0.
        growth: relative change of |w|² in a step, 2·ln(|w_end|/|w_start|) over the window's steps.
        real_decay: the weight decay that acts over the one that was set: float32 rounds 1 - ηλ, and
            members of the group may have weight decays of their own.
        amplification: by how much an error of one term is magnified in the law, because pull and
            growth cancel.
        forces: the law as rates of the norm; only the growth where the law does not hold.
        window: how many steps "now" spans.
        until: the step after the last of them.
        span: for how many steps the words give rates: the same for all rows of a comparison.
        terms: steps that are summed; each has its predecessor on record.
        fewest: steps that the stage needs to be judged; 0 if it has them.
        momentum: the largest in the stage.
        young: 1/(1 - β2), for how many steps the preconditioner is the mean of few gradients.
        idle: share of the window's steps without a gradient, which the optimizer skipped.
        stopped: how many steps the stage went on after its last gradient.
        written_after: how often something else wrote the weights in these steps.
        written: neighbouring steps between which something else wrote the weights.
        pairs: neighbouring steps of the stage.
        write: relative change of the norm by one such write, the median.
        exact: whether the law is an identity in what was recorded.
        mendable: whether it would be one if the run had been recorded with `products=8`.
        unknown: why `balance` is NaN; empty if it is known.
        neglects: the term that the law leaves out, in words; empty if none.
        inseparable: why decay and loss have no parts of their own; empty if they have.
        unexplained: why the parts of the law are not those of the growth; empty if they are.
    """

    balance: Estimate = NO_ESTIMATE
    pull: Estimate = NO_ESTIMATE
    decay_share: Estimate = NO_ESTIMATE
    growth: Estimate = NO_ESTIMATE
    real_decay: float = math.nan
    amplification: float = math.nan
    forces: Forces = NO_FORCES
    window: int = 0
    until: int = 0
    span: int = 1_000
    terms: int = 0
    fewest: int = 0
    momentum: float = math.nan
    young: float = math.nan
    idle: float = 0.0
    stopped: int = 0
    written_after: int = 0
    written: int = 0
    pairs: int = 0
    write: float = math.nan
    exact: bool = False
    mendable: bool = False
    unknown: str = "no step and its predecessor were both recorded"
    neglects: str = ""
    inseparable: str = ""
    unexplained: str = ""


NO_TUG = TugOfWar()
"""Nothing is known of the balance."""


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
        steps_more: steps from the stage's end until it is, at the latest drive; inf: cannot be
            said.
        drive_change: mean drive in the last quarter over that in the first.
        step_law: √(mean D / mean R) over the RMS law's value (`theory.balance_terms`).
    """

    equilibrium: float
    steps_needed: float
    steps_more: float
    drive_change: float
    step_law: Estimate


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


def _numbers(part: Evidence | Rest | TugOfWar | Forces) -> dict[str, float]:
    found: dict[str, float] = {}
    for field in dataclasses.fields(part):
        value: object = getattr(part, field.name)
        if isinstance(value, (Rest, TugOfWar)):
            found |= _numbers(value)
        elif isinstance(value, Forces):
            found |= {f"{name}_rate": rate for name, rate in _numbers(value).items()}
        elif isinstance(value, Estimate):
            found |= {field.name: value.value, f"{field.name}_low": value.low}
            found[f"{field.name}_high"] = value.high
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[field.name] = float(value)
    return {name: value for name, value in found.items() if math.isfinite(value)}
