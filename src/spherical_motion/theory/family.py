"""What is known of an optimizer's motion: the abstract family, from which all answers follow.

One power y of the norm obeys, to leading order in ηλ, dy/dt = gain·drive - rate·y, while the
steps are |d|²/|w|² = turn·drive/y. Everything else follows: the rest y* = gain·drive/rate, the
angle there Δ*² = turn·rate/gain, in which the drive cancels, and the way towards both.

==================  =====  ============  ============  ============================  ============
family              y      rate          gain          turn                          drive
==================  =====  ============  ============  ============================  ============
heavy ball, L2      |w|⁴   4ηλ/(1 - α)   2η²/(1 - α)²  η²/(1 - α²)                   h̃
Nesterov, L2        |w|⁴   4ηλ/(1 - α)   2η²/(1 - α)²  η²(1 + 2α - 2α³)/(1 - α²)     |g̃|²
heavy ball, dec.    |w|⁴   4ηλ           2η²/(1 - α)²  η²/(1 - α²)                   h̃
AdamW               |w|²   2ηλ           η²            η²(1 - β1)/(1 + β1)           numel
Lion                |w|²   2ηλ           η²c           η²                            numel
any decoupled       |w|²   2ηλ           η²c           η²                            mean |u|²
Adam, L2            |w|²   not linear: 2ηλ|w|³/σ pulls  η²(1 - β1)/(1 + β1)          σ and numel
==================  =====  ============  ============  ============================  ============
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import numpy as np

from spherical_motion.checks import held, number
from spherical_motion.errors import NoTheory, OutOfDomain
from spherical_motion.theory.group import MEASURED, GroupFacts
from spherical_motion.theory.relaxation import mean_decay, relaxed
from spherical_motion.theory.settings import Array, Pair, Settings, Steps, Value, without_dampening
from spherical_motion.theory.update_rule import UpdateRule
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

_ONES = GroupFacts(unit_grad_sq=1.0, numel=1.0, unit_grad_rms=1.0, correlation=1.0, update_sq=1.0)


def settled_excess(excess0: float, within: float) -> float:
    """Excess at which the angle comes within a share `within` of Δ*; `excess0` if it is there."""
    where = "steps_to_within"
    within = number(where, "within", within, above=0.0, below=1.0, error=OutOfDomain)
    excess0 = number(where, "excess0", excess0, above=0.0, error=OutOfDomain)
    target = (1.0 - within if excess0 > 1.0 else 1.0 + within) ** -2
    return target if (excess0 - 1.0) / (target - 1.0) > 1.0 else excess0


def _in_float64(where: str, value: float) -> float:
    """`value`, which is > 0 unless it is beyond float64."""
    if value > 0.0:
        return held(where, value)
    raise OutOfDomain(f"{where}: the result is below what float64 holds (1e-308).")


class Family(UpdateRule):
    """Optimizers that share one set of formulas for equilibrium and the way towards it.

    A new family must give `name` and `optimizers`, and write `gain` and `turn`; `rate`, `power`,
    `drive` and `needs` where the defaults do not fit. All other methods have defaults that follow
    from these to leading order in ηλ; override one where more is known. `hp` holds the settings
    after `without_dampening`, `facts` what is known of the group.

    Attributes:
        name: what the family is called in messages.
        optimizers: values of `HyperParameters.optimizer` that it holds for.
        classes: class names of these optimizers, for `HyperParameters.from_param_group`.
        decoupled: whether weight decay acts on the weights and not through the gradient.
        power: the power y of the norm that relaxes.
        drive: the field of `GroupFacts` that drives the norm.
        pull_power: the power of |w|² with which the pull changes where only decay pulls.
        needs: the fields that every formula needs; those of the norm need `drive` too.
        unrecorded: which of `needs` no record holds, as a sentence; empty if records do.
        takes_entries_alike: whether the prediction takes the gradient's entries to be alike in
            size, which records cannot check.
        has_law_of_motion: whether `carried` is known.
        balance_law: what every step must balance (`theory.balance`); None where it is not known.
    """

    classes: ClassVar[tuple[str, ...]] = ()
    power: ClassVar[int] = 2
    drive: ClassVar[str] = "numel"
    pull_power: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ()
    unrecorded: ClassVar[str] = ""
    takes_entries_alike: ClassVar[bool] = False
    has_law_of_motion: ClassVar[bool] = False

    # The law of the norm: what a new family writes.

    @abc.abstractmethod
    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        """What one unit of drive adds to y in a step."""

    @abc.abstractmethod
    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        """|d|²/|w|² of a step, for one unit of drive and y = 1."""

    def rate(self, s: Settings, facts: GroupFacts) -> Value:
        """The share of y that weight decay removes in a step; by default decoupled decay."""
        return self.power * s.lr * s.weight_decay

    def largest_intrinsic_lr(self, momentum: float) -> float:
        """The ηλ below which an equilibrium exists; at it each step reverses the weights."""
        return 2.0

    # At rest.

    def step_ratio_sq(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """Mean |d|² over mean |w|² at rest: turn·rate/gain."""
        return float(self.turn(hp, facts) * self.rate(hp, facts) / self.gain(hp, facts))

    def rest_norm(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """|w*|: (gain·drive/rate)^(1/power)."""
        drive = facts.need(self.drive)
        return float(self.gain(hp, facts) * drive / self.rate(hp, facts)) ** (1.0 / self.power)

    def balance_terms(self, hp: HyperParameters, gram: Gram, facts: GroupFacts) -> Pair:
        """(outward, inward): two series whose means agree at rest."""
        return gram.dd, self.step_ratio(hp, facts) ** 2 * gram.ww

    # Towards rest. The excess is y/y*, the time steps × rate.

    def excess_after_drop(self, lr_drop: float) -> float:
        """Excess of a group at rest once the rate is divided by `lr_drop`."""
        return lr_drop

    def excess_after(self, start: Array, time: Array) -> Array:
        """Excess after `time`, from `start`: 1 + (start - 1)·e^{-time}."""
        return 1.0 + (start - 1.0) * np.exp(-time)

    def time_between(self, start: float, target: float) -> float:
        """Time from one excess to another, both on one side of 1."""
        return math.log((start - 1.0) / (target - 1.0))

    def unopposed_time(self, excess: float) -> float:
        """Time to y* by decay alone, or for a light group by the gradients alone."""
        return math.log(excess) if excess > 1.0 else 1.0 - excess

    def window_ratio_sq(
        self, hp: HyperParameters, norms: Array, steps: float, facts: GroupFacts
    ) -> float:
        """Mean Δ²/Δ*² over `steps` steps in which the norm takes these values, first to last.

        The linear law says Δ²/Δ*² = y*/y = 1 + (d ln y/dt)/r, so that the ends are enough.
        """
        drift = self.power * math.log(norms[-1] / norms[0]) / steps
        return max(1.0 + drift / self.relaxation_rate(hp, facts), 0.0)

    # Step by step.

    def driven_power(
        self, s: Steps, start: Array, drive: Array, span: Array, facts: GroupFacts
    ) -> Array:
        """y before each step and after the last, under a drive of shape (steps, ...)."""
        rate = span * self.rate(s, facts)
        gain = span * self.gain(s, facts) * mean_decay(rate)
        column = (slice(None), *([None] * start.ndim))
        return relaxed(rate, gain[column] * drive, start)

    def driven_turn(self, s: Steps, drive: Array, facts: GroupFacts) -> Value:
        """y·|d|²/|w|² of each step, under this drive."""
        return self.turn(s, facts) * drive

    def memory(self, hp: HyperParameters, lost: float) -> tuple[float, float]:
        """(2 - φ₁, 1 - φ₁ - φ₂) of mean cosines c_n = φ₁c_{n-1} + φ₂c_{n-2}; `lost` = 1 - c_1."""
        raise NoTheory(
            f"accumulated_angle: the correlation of {self.name} steps over few lags has no closed "
            "form here. Over many steps: accumulated_angle_approx."
        )

    def carried(self, s: Steps, gram: Gram) -> Array:
        """What the buffer carries from each step to the next, (steps - 1, ...) values."""
        raise NoTheory(f"law_of_motion_residual: no law of motion here for {self.name}.")

    def pull(self, s: Steps, gram: Gram) -> Array:
        """The part of -<w, d>/η that each step's own gradient and decay make."""
        return s.weight_decay * gram.ww + gram.wg

    # From records.

    def measured_drive(self, gram: Gram, s: Steps, numel: int) -> Array:
        """The drive at each recorded sample."""
        return MEASURED[self.drive](gram, s, numel)

    def measured_overlap(self, gram: Gram, s: Steps) -> Array:
        """|w|²<v_{t-1}, g> at each recorded sample; NaN where no formula needs it."""
        return np.full(s.lr.shape, np.nan)

    # Answers, with every argument checked; no family has to write them.

    def intrinsic_lr(self, hp: HyperParameters, where: str) -> float:
        """ηλ, checked to lie where an equilibrium exists.

        Raises:
            OutOfDomain: lr or weight_decay is 0 (nothing to balance), or ηλ is too large (each
                step overshoots the sphere's centre).
        """
        hp = without_dampening(hp)
        limit = self.largest_intrinsic_lr(hp.momentum)
        if not 0.0 < hp.intrinsic_lr < limit:
            raise OutOfDomain(
                f"{where}: an equilibrium exists for 0 < lr × weight_decay < {limit:g}, got "
                f"lr={hp.lr:g} × weight_decay={hp.weight_decay:g} = {hp.intrinsic_lr:g}. "
                + (
                    "Without weight decay the norm only grows; compare the angle with η|g̃|/|w|²."
                    if hp.weight_decay == 0
                    else "Lower the learning rate or the weight decay."
                    if hp.intrinsic_lr > 0
                    else "A learning rate of 0 moves nothing."
                )
            )
        return hp.intrinsic_lr

    def check_facts(
        self, hp: HyperParameters, facts: GroupFacts, where: str, needs: tuple[str, ...]
    ) -> None:
        """Raise InvalidArgument or NoTheory unless `facts` and `hp` hold what is needed."""
        for name in needs:
            facts.need(name, where, hp.optimizer)

    def _checked(
        self, hp: HyperParameters, facts: GroupFacts, where: str, *more: str
    ) -> HyperParameters:
        self.intrinsic_lr(hp, where)
        self.check_facts(hp, facts, where, (*self.needs, *more))
        return without_dampening(hp)

    def step_ratio(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.equilibrium_step_ratio`."""
        where = "equilibrium_step_ratio"
        square = self.step_ratio_sq(self._checked(hp, facts, where), facts)
        if not 0.0 < square <= 4.0:
            raise OutOfDomain(
                f"{where}: |d|²/|w|² would be {square:g}; a step at rest lies within (0, 4]. "
                "Lower the learning rate or the weight decay, or check what was given of the group."
            )
        return math.sqrt(square)

    def angle(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.equilibrium_angle`."""
        return 2.0 * math.asin(self.step_ratio(hp, facts) / 2.0)

    def angle_approx(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.equilibrium_angle_approx`."""
        felt = self._checked(hp, facts, "equilibrium_angle_approx")
        # The base class's formula is the leading order, also where a family knows the exact value.
        square = Family.step_ratio_sq(self, felt, facts)
        return _in_float64("equilibrium_angle_approx", math.sqrt(square))

    def norm(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.equilibrium_norm`."""
        where = "equilibrium_norm"
        felt = self._checked(hp, facts, where, self.drive)
        return _in_float64(where, self.rest_norm(felt, facts))

    def norm_approx(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.equilibrium_norm_approx`."""
        felt = self._checked(hp, facts, "equilibrium_norm_approx", self.drive)
        return _in_float64("equilibrium_norm_approx", Family.rest_norm(self, felt, facts))

    def norm_ratio(self, new: HyperParameters, old: HyperParameters, before: Family) -> float:
        """|w*| under `new` over |w*| under `old`, settings of the family `before`; for any group.

        |w*| is powers of the facts times a function of the settings, so the facts cancel.
        """
        # With every fact 1 that function is left; Nesterov's overlap is taken as 0.
        return self.norm(new, _ONES) / before.norm(old, _ONES)

    def balance(self, hp: HyperParameters, gram: Gram, facts: GroupFacts) -> Pair:
        """`theory.balance_terms`."""
        self.intrinsic_lr(hp, "balance_terms")
        return self.balance_terms(without_dampening(hp), gram, facts)

    def relaxation_rate(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.relaxation_rate`."""
        felt = self._checked(hp, facts, "relaxation_rate")
        return _in_float64("relaxation_rate", float(self.rate(felt, facts)))

    def forgetting_rate(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """`theory.forgetting_rate`: y, the `power` of the norm, shrinks that many times as fast."""
        return self.relaxation_rate(hp, facts) / self.power

    def steps_to_within(
        self, hp: HyperParameters, excess0: float, within: float, facts: GroupFacts
    ) -> float:
        """`theory.steps_to_within`."""
        return self.steps_by_linear_law(hp, excess0, within, facts)

    def steps_by_linear_law(
        self, hp: HyperParameters, excess0: float, within: float, facts: GroupFacts
    ) -> float:
        """The same by the linear law of the norm, also where the family knows better."""
        target = settled_excess(excess0, within)
        if target == excess0:
            return 0.0
        return self.time_between(excess0, target) / self.relaxation_rate(hp, facts)

    def settles(
        self, hp: HyperParameters, excess0: float, within: float, facts: GroupFacts, steps: int
    ) -> bool:
        """Whether the angle stays within a share of Δ* after so many steps."""
        return self.steps_to_within(hp, excess0, within, facts) <= steps

    def angle_at_excess(self, hp: HyperParameters, excess: Value, facts: GroupFacts) -> Array:
        """`theory.angle_at_excess`."""
        rest = self.angle(hp, facts)
        # By its two components, since the tangent of an angle above π/2 is negative.
        return np.arctan2(math.sin(rest), math.cos(rest) * np.sqrt(excess))
