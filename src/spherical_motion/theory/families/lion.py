"""Lion: decoupled decay, and the sign of a mix of gradients as the update.

All entries of u are ±1, so that |u|² = numel. The arcsine law gives how its signs agree in time:
see `theory.adaptive`.
"""

from __future__ import annotations

import math

import numpy as np

from spherical_motion.checks import plain
from spherical_motion.errors import InvalidArgument
from spherical_motion.theory.adaptive import lion_correlation, lion_factor, lion_memory
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.settings import Settings, Value
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class Lion(Family):
    """|w|² relaxes at 2ηλ, driven by numel; the gain holds c, the correlation of its signs."""

    name = "Lion"
    optimizers = ("lion",)

    def check_facts(
        self, hp: HyperParameters, facts: GroupFacts, where: str, needs: tuple[str, ...]
    ) -> None:
        if hp.beta2 is None:
            raise InvalidArgument(f"{where}: Lion's formulas need β2; pass betas=(β1, β2).")
        super().check_facts(hp, facts, where, needs)

    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2 * plain(lion_correlation(np.asarray(s.momentum), _beta2(s)))

    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2

    def step_ratio_sq(self, hp: HyperParameters, facts: GroupFacts) -> float:
        a = hp.intrinsic_lr
        memory = lion_memory(hp.momentum, _beta2(hp), 1.0 - a)
        return a * a + a * (2.0 - a) * (1.0 - 2.0 * a * memory) / (1.0 + 2.0 * (1.0 - a) * memory)

    def rest_norm(self, hp: HyperParameters, facts: GroupFacts) -> float:
        a = hp.intrinsic_lr
        correlation = lion_correlation(hp.momentum, _beta2(hp), a)
        return math.sqrt(hp.lr / hp.weight_decay * facts.need("numel") * correlation / (2.0 - a))

    def angle_approx(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """√(πηλK): asin r ≈ r, too."""
        self._checked(hp, facts, "equilibrium_angle_approx")
        return math.sqrt(math.pi * hp.intrinsic_lr * lion_factor(hp.momentum, _beta2(hp)))

    def norm_approx(self, hp: HyperParameters, facts: GroupFacts) -> float:
        norm, beta2 = super().norm_approx(hp, facts), _beta2(hp)
        exact = lion_correlation(hp.momentum, beta2)
        return norm * math.sqrt(2.0 / (math.pi * lion_factor(hp.momentum, beta2) * exact))


def _beta2(s: Settings) -> float:
    assert s.beta2 is not None  # `check_facts` has refused it
    return s.beta2
