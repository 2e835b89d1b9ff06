"""AdamW: with its second moment settled, u = m/√v is a running mean of unit-size gradients.

Its |u|² is numel·(1 - β1)/(1 + β1) for gradients that are independent from step to step, and
D/R equals the decoupled heavy ball's.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from spherical_motion.theory.balance_law import AverageLaw, BalanceLaw, Moves
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import GroupFacts, update_sq
from spherical_motion.theory.settings import Array, Pair, Settings, Steps, Value
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class AdamLaw(AverageLaw):
    """β = β1, θ = 1 - β1, P = 1/((1 - β1^t)(√v̂ + ε)): an identity in `wp` and `ws`.

    f = (1 - β1)/(1 + β1), s = 1; with L2 decay. Without `ws` the change of the preconditioner is
    left out.
    """

    preconditioned = True
    changes = True
    neglects = "the change of the preconditioner from step to step"

    def kept(self, moves: Moves) -> Array:
        return moves.s.momentum

    def fresh(self, moves: Moves) -> Pair:
        # <w, Px> holds λ<w, Pw>, which is not recorded on its own.
        untold = 0.0 if moves.hp.decoupled else np.where(moves.s.weight_decay == 0.0, 0.0, np.nan)
        return untold + np.zeros(moves.s.lr.shape), (1.0 - moves.s.momentum) * moves.gram.wp

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        return (1.0 - s.momentum) / (1.0 + s.momentum), 1.0 + 0.0 * s.momentum


class AdamWLaw(AdamLaw):
    """The same with δ = λ: f = (1 - β1)/(1 + β1 - β1ηλ), s = (1 - β1 - β1ηλ)/(1 - β1)."""

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        a, m = s.lr * s.weight_decay, s.momentum
        return (1.0 - m) / (1.0 + m - m * a), (1.0 - m - m * a) / (1.0 - m)


class AdamW(Family):
    """|w|² relaxes at 2ηλ, driven by numel; D/R = 2ηλ(1 - β1)/(1 + β1 - β1ηλ)."""

    name = "AdamW"
    optimizers = ("adam", "adamw")
    balance_law: ClassVar[BalanceLaw | None] = AdamWLaw()

    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2

    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2 * ((1.0 - s.momentum) / (1.0 + s.momentum))

    def step_ratio_sq(self, hp: HyperParameters, facts: GroupFacts) -> float:
        a, m = hp.intrinsic_lr, hp.momentum
        return 2.0 * a * (1.0 - m) / (1.0 + m - m * a)

    def rest_norm(self, hp: HyperParameters, facts: GroupFacts) -> float:
        a, m = hp.intrinsic_lr, hp.momentum
        correlation = (1.0 - m) / (1.0 + m) * (1.0 + m * (1.0 - a)) / (1.0 - m * (1.0 - a))
        numel = facts.need("numel")
        return math.sqrt(hp.lr / hp.weight_decay * numel * correlation / (2.0 - a))

    def memory(self, hp: HyperParameters, lost: float) -> tuple[float, float]:
        a, x = hp.momentum, hp.intrinsic_lr
        return 1.0 - a + x, x * (1.0 - a)

    def measured_drive(self, gram: Gram, s: Steps, numel: int) -> Array:
        # Where gradients fade, the second moment remembers their old size and u is smaller. So
        # the size that u has stands in for numel.
        return update_sq(gram, s, numel) * (1.0 + s.momentum) / (1.0 - s.momentum)
