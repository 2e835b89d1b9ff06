"""What one stage of a planned run will do, in numbers and as a sentence."""

from __future__ import annotations

import dataclasses
import enum
import math

from spherical_motion.forecasting.remedies import Remedy
from spherical_motion.forecasting.state import WITHIN
from spherical_motion.vocabulary.schedule import Stage

SENSIBLE_FACTOR = 100.0
"""The largest factor of the weight decay that the sentence recommends."""

MAY_NOT_REST = "the pull may be 0 or below, and then nothing comes to rest"


class Outcome(enum.Enum):
    """How a stage ends."""

    SETTLES = "settles"
    FALLS_SHORT = "falls short"
    VARIES = "varies"
    NO_EQUILIBRIUM = "no equilibrium"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """What one stage will do. Angles in radians a step; NaN where there is no such number.

    Attributes:
        stage: the steps it covers and its settings.
        outcome: whether it reaches its equilibrium, and if not, whether it has one.
        angle_start, angle_end: the angle at its first and last step.
        angle_peak: the largest angle in between.
        norm_start, norm_end: the weights' norm before and after; NaN unless `forecast` was given
            the group's drive.
        equilibrium_angle: Δ*, which the angle tends to; where settings vary, Δ* at the last step.
        excess_start, excess_end: y/y*, above 1 for weights that are too heavy to turn at Δ*.
        steps_at_least: steps the norm needs to its rest if nothing opposes it: no gradient for
            heavy weights (the papers' lower bound, ln(y/y*)/r), no decay for light ones.
        steps_needed: steps until the angle is within 5% of Δ*; inf without an equilibrium.
        share_settled: share of its steps at which the angle is within 5% of Δ*; where
            settings vary, of each step's own Δ*.
        settled_until: the step after the last such step; NaN if there is none.
        remedy: what would help a stage that falls short, else None.
        pull: the pull that was given; where settings vary, at the last step. NaN: weight decay's.
        pull_low, pull_high: its 95% interval in the run that it was measured in, else NaN.
        equilibrium_low, equilibrium_high: the equilibrium angles that belong to these; NaN with
            them. Where `pull_low` is not above 0 the weights may not come to rest at all.
        norm_at_rest: the norm that belongs to Δ*; NaN as `norm_end`.
        guess: whether the pull changes as the norm does, so that norms and times are a guess.
    """

    stage: Stage
    outcome: Outcome
    angle_start: float
    angle_end: float
    angle_peak: float
    norm_start: float
    norm_end: float
    equilibrium_angle: float = math.nan
    excess_start: float = math.nan
    excess_end: float = math.nan
    steps_at_least: float = math.inf
    steps_needed: float = math.inf
    share_settled: float = math.nan
    settled_until: float = math.nan
    remedy: Remedy | None = None
    pull: float = math.nan
    pull_low: float = math.nan
    pull_high: float = math.nan
    equilibrium_low: float = math.nan
    equilibrium_high: float = math.nan
    norm_at_rest: float = math.nan
    guess: bool = False

    @property
    def settles(self) -> bool:
        """Whether the stage is long enough to come within 5% of its equilibrium, at its `pull`."""
        return self.outcome is Outcome.SETTLES

    @property
    def may_not_rest(self) -> bool:
        """Whether the pull may be 0 or below, so that nothing may hold the norm."""
        return self.pull_low <= 0 and self.outcome is not Outcome.NO_EQUILIBRIUM

    @property
    def end(self) -> str:
        """How it ends, in a few words, with how sure that is."""
        ends = self.outcome in (Outcome.SETTLES, Outcome.FALLS_SHORT)
        text = "may not settle" if ends and self.may_not_rest else self.outcome.value
        return f"{text} (a guess)" if self.guess and ends else text

    @property
    def shortfall(self) -> float:
        """Δ*/Δ at the end: 2.65 says that the angle ends 2.65 × below its equilibrium."""
        return self.equilibrium_angle / self.angle_end if self.angle_end else math.inf

    def __str__(self) -> str:
        pull = "" if math.isnan(self.pull) else f"pull {self.pull:.3g}{self._pull_interval()}; "
        text = f"steps {self.stage.start:,}-{self.stage.stop:,}: {pull}{self._sentence()}"
        if self.guess and math.isfinite(self.norm_end):
            text += " A guess: the pull itself changes with the norm."
        return text

    def _pull_interval(self) -> str:
        if math.isnan(self.pull_low):
            return ""
        return f" ({self.pull_low:.3g} to {self.pull_high:.3g})"

    def _sentence(self) -> str:
        course = f"the angle goes from {self.angle_start:.3g} to {self.angle_end:.3g} rad a step"
        if self.outcome is Outcome.NO_EQUILIBRIUM:
            return f"{self._obstacle()}; {course}{self._norms()}."
        if self.outcome is Outcome.VARIES:
            text = f"the settings vary; {course}, at most {self.angle_peak:.3g}{self._norms()}"
            if self.may_not_rest:
                return f"{text}; {MAY_NOT_REST}."
            if math.isnan(self.share_settled):
                return f"{text}; without weight decay there is no equilibrium."
            text += f"; within {WITHIN:.0%} of the equilibrium of the moment for "
            text += f"{self.share_settled:.0%} of its steps"
            if self.settled_until < self.stage.stop:
                text += f", and no more from step {self.settled_until:,.0f} on"
            return text + "."
        head = f"equilibrium {self.equilibrium_angle:.3g} rad a step{self._rest()}; "
        if self.may_not_rest:
            needs = f"would take {self.steps_needed:,.0f} steps to come within {WITHIN:.0%} of it"
            if not self.steps_needed:
                needs = f"would stay within {WITHIN:.0%} of it"
            return (
                f"{head}{MAY_NOT_REST}; if it stays at {self.pull:.3g}, the angle {needs}, and it "
                f"has {self.stage.steps:,}{self._norms()}."
            )
        if self.settles:
            when = f"after {self.steps_needed:,.0f} steps" if self.steps_needed else "throughout"
            return f"{head}within {WITHIN:.0%} of it {when}{self._norms()}."
        return f"{head}{self._shortage()} {self._ways_out()}"

    def _rest(self) -> str:
        """The interval of the equilibrium angle and the norm that belongs to it."""
        text = ""
        if math.isfinite(self.equilibrium_low):
            text += f" ({self.equilibrium_low:.3g} to {self.equilibrium_high:.3g})"
        if math.isfinite(self.norm_at_rest):
            text += f" at norm {self.norm_at_rest:.3g}"
        return text

    def _norms(self) -> str:
        if math.isnan(self.norm_end):
            return ""
        least = " at least" if self.pull < 0 and not self.guess else ""
        return f"; the norm goes from {self.norm_start:.3g} to {self.norm_end:.3g}{least}"

    def _obstacle(self) -> str:
        hp = self.stage.hp
        if hp is None or hp.lr == 0:
            return "the learning rate is 0, so nothing moves"
        if self.pull <= 0:
            lasting = " while that lasts" if self.guess else ""
            return f"decay and loss together do not pull inward, so nothing holds the norm{lasting}"
        if math.isnan(self.pull) and hp.weight_decay == 0:
            return "no weight decay, so no equilibrium: the norm only grows"
        if not math.isnan(self.pull):
            return f"lr × pull = {hp.lr * self.pull:g} is too large for an equilibrium"
        return f"lr × weight decay = {hp.intrinsic_lr:g} is too large for an equilibrium"

    def _shortage(self) -> str:
        least, needed = f"{self.steps_at_least:,.0f}", f"{self.steps_needed:,.0f}"
        needs = f"needs {needed} steps to come within {WITHIN:.0%}"
        if self.steps_at_least < self.steps_needed:
            needs = f"needs at least {least} steps, {needed} to come within {WITHIN:.0%},"
        times = max(self.shortfall, 1.0 / self.shortfall)
        side = "below" if self.shortfall > 1.0 else "above"
        ends = f"its angle ends {times:.2f} × {side}{self._norms()}"
        return f"{needs} and has {self.stage.steps:,}: {ends}."

    def _ways_out(self) -> str:
        if self.remedy is None:
            return ""
        text = f"Rescale its weights by {self.remedy.rescale:.3g} at its start"
        if self.remedy.weight_decay <= SENSIBLE_FACTOR:
            text += f", or raise its weight decay × {self.remedy.weight_decay:.3g}, which raises "
            text += f"the equilibrium × {self.remedy.angle:.2g} too"
        return text + "."
