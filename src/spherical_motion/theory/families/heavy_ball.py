"""SGD with momentum α and no Nesterov: weight decay through the gradient, or on the weights.

v ← αv + g (+ λw), w ← w - ηv (- ηλw). Summing v's recursion against w gives |d|²/|w|² at rest,
assuming only <w, g> = 0 (Li & Arora, 2020, appendix B.2, for L2 decay).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import numpy as np

from spherical_motion.theory.balance_law import AverageLaw, BalanceLaw, Moves
from spherical_motion.theory.family import Family, settled_excess
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.recursion.settling import steps_to_settle
from spherical_motion.theory.recursion.step import (
    Recursion,
    Row,
    decoupled_rows,
    heavy_ball_rows,
    smaller_root,
)
from spherical_motion.theory.settings import Array, Pair, Settings, Steps, Value
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class HeavyBallLaw(AverageLaw):
    """β = α, θ = 1 - dampening (1 at the first step), x = g + λw: D/R = (2ηp + (1 - α)γ)/(1 + α).

    An identity in the six products, since <w, x> = <w, g> + λ|w|².
    """

    keeps_buffer = True

    def kept(self, moves: Moves) -> Array:
        return moves.s.momentum

    def theta(self, moves: Moves) -> Array:
        """The share of x that enters the buffer; torch damps neither the first nor a plain step."""
        whole = moves.start | (moves.s.momentum == 0.0)
        return np.where(whole, 1.0, 1.0 - moves.hp.dampening)

    def l2(self, moves: Moves) -> Value:
        """λ where weight decay acts through the gradient."""
        return 0.0 if moves.hp.decoupled else moves.s.weight_decay

    def inner(self, moves: Moves) -> Array:
        gram = moves.gram
        return np.where(np.isnan(gram.wp), gram.wg + self.l2(moves) * gram.ww, gram.wp)

    def fresh(self, moves: Moves) -> Pair:
        theta = self.theta(moves)
        return theta * self.l2(moves) * moves.gram.ww, theta * self.inner(moves)

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        return 1.0 / (1.0 + s.momentum), 1.0 - s.momentum


class DecoupledHeavyBallLaw(HeavyBallLaw):
    """The same with δ = λ and x = g: f = (1 - α)/(1 + α - αηλ), s = (1 - α - αηλ)/(1 - α)."""

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        a, m = s.lr * s.weight_decay, s.momentum
        return (1.0 - m) / (1.0 + m - m * a), (1.0 - m - m * a) / (1.0 - m)


class HeavyBallL2(Family):
    """|w|⁴ relaxes at 4ηλ/(1 - α), driven by h̃; D/R = 2ηλ/(1 + α) exactly."""

    name = "SGD with momentum and L2 weight decay"
    optimizers = ("sgd",)
    decoupled = False
    power = 4
    drive = "unit_grad_sq"
    has_law_of_motion = True
    balance_law: ClassVar[BalanceLaw | None] = HeavyBallLaw()

    def covers(self, hp: HyperParameters) -> bool:
        return super().covers(hp) and not (hp.nesterov and hp.momentum)

    def largest_intrinsic_lr(self, momentum: float) -> float:
        return 2.0 * (1.0 + momentum)

    def steps_to_within(
        self, hp: HyperParameters, excess0: float, within: float, facts: GroupFacts
    ) -> float:
        """By the exact recursion of the norm, which for ηλ >= (1 - √α)² swings about its rest."""
        settled_excess(excess0, within)  # checks both
        felt = self._checked(hp, facts, "steps_to_within")
        rule = self.recursion(felt, facts)
        return steps_to_settle(rule, felt.intrinsic_lr, felt.momentum, excess0, within)

    def settles(
        self, hp: HyperParameters, excess0: float, within: float, facts: GroupFacts, steps: int
    ) -> bool:
        felt = self._checked(hp, facts, "steps_to_within")
        a, memory = felt.intrinsic_lr, 40.0 / (1.0 - felt.momentum)
        if excess0 > 1.0 and a < 0.1 * self.critical(felt.momentum):
            by_linear_law = self.steps_by_linear_law(hp, excess0, within, facts)
            if not 0.8 * steps - memory < by_linear_law < 1.2 * steps + memory:
                return by_linear_law < steps
        rule = self.recursion(felt, facts)
        return steps_to_settle(rule, a, felt.momentum, excess0, within, steps) <= steps

    def recursion(self, hp: HyperParameters, facts: GroupFacts) -> Recursion:
        """The recursion of the norm, for any ηλ and momentum; one object for equal arguments."""
        return _recursion(self, hp, facts)

    def new_recursion(self, hp: HyperParameters, facts: GroupFacts) -> Recursion:
        """`recursion`, made anew."""

        def at(a: float, momentum: float) -> HyperParameters:
            return dataclasses.replace(hp, lr=1.0, weight_decay=a, momentum=momentum)

        return Recursion(
            rows=lambda a, m: self.rows(a, m, facts),
            push=lambda a, m: a / self.norm_share(a, m, facts),
            angle=functools.lru_cache(lambda a, m: self.angle(at(a, m), facts)),
            rate=functools.lru_cache(lambda a, m: float(self.rate(at(a, m), facts))),
            fading=self.fading,
            critical=self.critical,
            limit=self.largest_intrinsic_lr,
        )

    def rows(self, a: float, momentum: float, facts: GroupFacts) -> tuple[Row, Row, Row, Row]:
        """Coefficients of the recursion (`theory.recursion.step`)."""
        return heavy_ball_rows(a, momentum)

    def fading(self, a: float, momentum: float) -> float:
        """Share of |w| that is lost in a step without gradients, for ηλ below critical."""
        return smaller_root(1.0 - momentum + a, a)

    def critical(self, momentum: float) -> float:
        """ηλ beyond which norm and buffer swing about each other."""
        return (1.0 - math.sqrt(momentum)) ** 2

    def rate(self, s: Settings, facts: GroupFacts) -> Value:
        return 4.0 * s.lr * s.weight_decay / (1.0 - s.momentum)

    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        return 2.0 * (s.lr / (1.0 - s.momentum)) ** 2

    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2 / (1.0 - s.momentum**2)

    def step_ratio_sq(self, hp: HyperParameters, facts: GroupFacts) -> float:
        return 2.0 * hp.intrinsic_lr / (1.0 + hp.momentum)

    def rest_norm(self, hp: HyperParameters, facts: GroupFacts) -> float:
        share = self.norm_share(hp.intrinsic_lr, hp.momentum, facts)
        return (facts.need(self.drive) * share * hp.lr / hp.weight_decay) ** 0.25

    def norm_share(self, a: float, m: float, facts: GroupFacts) -> float:
        """|w*|⁴·λ/(Lη) at a = ηλ and momentum m, exact in ηλ."""
        return 1.0 / ((1.0 - m) * (2.0 - a / (1.0 + m)))

    def balance_terms(self, hp: HyperParameters, gram: Gram, facts: GroupFacts) -> Pair:
        return (1.0 + hp.momentum) * gram.dd, 2.0 * hp.intrinsic_lr * gram.ww

    def memory(self, hp: HyperParameters, lost: float) -> tuple[float, float]:
        x = (1.0 + hp.momentum) * lost
        return 1.0 - hp.momentum + x, x

    def carried(self, s: Steps, gram: Gram) -> Array:
        return s.momentum[1:] * ((gram.wd + gram.dd) / s.lr)[:-1]


@functools.lru_cache(maxsize=64)
def _recursion(family: HeavyBallL2, hp: HyperParameters, facts: GroupFacts) -> Recursion:
    return family.new_recursion(hp, facts)


class HeavyBallDecoupled(HeavyBallL2):
    """|w|⁴ relaxes at 4ηλ, driven by h̃; D/R = 2ηλ(1 - α)/(1 + α - αηλ) exactly."""

    name = "SGD with momentum and decoupled weight decay"
    decoupled = True
    balance_law = DecoupledHeavyBallLaw()

    def largest_intrinsic_lr(self, momentum: float) -> float:
        return 2.0

    def rows(self, a: float, momentum: float, facts: GroupFacts) -> tuple[Row, Row, Row, Row]:
        return decoupled_rows(a, momentum)

    def fading(self, a: float, momentum: float) -> float:
        return a

    def critical(self, momentum: float) -> float:
        return 1.0 - momentum

    def rate(self, s: Settings, facts: GroupFacts) -> Value:
        return 4.0 * s.lr * s.weight_decay

    def step_ratio_sq(self, hp: HyperParameters, facts: GroupFacts) -> float:
        a, m = hp.intrinsic_lr, hp.momentum
        return 2.0 * a * (1.0 - m) / (1.0 + m - m * a)

    def norm_share(self, a: float, m: float, facts: GroupFacts) -> float:
        return (1.0 + m - m * a) / ((1.0 - m * m) * (1.0 - m + m * a) * (2.0 - a))

    def balance_terms(self, hp: HyperParameters, gram: Gram, facts: GroupFacts) -> Pair:
        a, m = hp.intrinsic_lr, hp.momentum
        return (1.0 + m - m * a) * gram.dd, 2.0 * a * (1.0 - m) * gram.ww

    def memory(self, hp: HyperParameters, lost: float) -> tuple[float, float]:
        a, x = hp.momentum, hp.intrinsic_lr
        return 1.0 - a + x, x * (1.0 - a)

    def carried(self, s: Steps, gram: Gram) -> Array:
        before = (gram.wd + gram.dd) / s.lr + s.weight_decay * (gram.ww + gram.wd)
        return s.momentum[1:] * before[:-1]
