"""Decoupled weight decay and steps whose size does not depend on the norm: Muon and others.

|w|² = η²·mean |u|²·c/(a(2 - a)) with a = ηλ and c = 1 + 2Σρ_k(1 - a)^k. Where the updates forget
far sooner than the decay, 1/a steps, c is 1 + 2Σρ_k and D/R = 2a/c. Neither settings nor recorded
products hold c: measure it (`theory.adaptive`).
"""

from __future__ import annotations

from spherical_motion.checks import Array
from spherical_motion.errors import NoTheory
from spherical_motion.theory.balance_law import Moves, ReadableLaw
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.settings import Settings, Value
from spherical_motion.vocabulary.hyperparameters import BALANCE_ONLY, HyperParameters


class CorrelationLaw(ReadableLaw):
    """D = (2ηλR + G)/c: what decay and growth leave, over the correlation of the updates.

    The updates' pull on the norm is left out, and c is one number for the whole window.
    """

    last_resort = True
    neglects = "how the updates pull on the norm, and how their correlation changes"

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        if facts.correlation is None:
            raise NoTheory(
                "how its updates are correlated in time was not measured. "
                "watch(..., correlation_every=1000) measures it; a formula takes it as "
                "correlation=... (theory.largest_correlation_sum)."
            )
        return 1.0 / facts.need("correlation", "balance"), 1.0

    def inner(self, moves: Moves) -> Array:
        return 0.0 * moves.gram.ww


class AnyDecoupled(Family):
    """|w|² relaxes at 2ηλ, driven by mean |u|²; leading order in ηλ."""

    name = "decoupled weight decay and steps of known correlation"
    optimizers = ("muon", "other", *BALANCE_ONLY)
    drive = "update_sq"
    needs = ("correlation",)
    balance_law = CorrelationLaw()
    unrecorded = (
        "Its angle depends on how its steps are correlated in time, which is not among the six "
        "recorded products. Record that too, with watch(..., correlation_every=1000)"
    )

    def check_facts(
        self, hp: HyperParameters, facts: GroupFacts, where: str, needs: tuple[str, ...]
    ) -> None:
        if facts.correlation is None:
            raise NoTheory(
                f"{where}: no prediction for {hp.optimizer} from the settings or the six recorded "
                "products alone: it takes the autocorrelation of the steps. Measure it from a "
                "series of updates (theory.correlation_sum) and pass correlation=..."
            )
        super().check_facts(hp, facts, where, needs)

    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2 * facts.need("correlation")

    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        return s.lr**2

    def relaxation_rate(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """2ηλ, the one answer that needs no correlation."""
        return 2.0 * self.intrinsic_lr(hp, "relaxation_rate")
