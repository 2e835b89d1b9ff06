"""From evidence to a verdict: the rungs of the ladder, tried from the first to the last.

Nothing else in the library judges. A rule yields its reasons, none if it does not apply; the first
rule that applies decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.ladder.angle import another_angle, in_equilibrium, off
from spherical_motion.comparison.ladder.balance_law import (
    approximate,
    balance_holds,
    balance_too_wide,
    in_balance,
    no_prediction,
    off_balance,
)
from spherical_motion.comparison.ladder.clauses import (
    changed_between_bursts,
    decay_hidden_beside,
    differing_settings,
    gradient_changed,
    put_back,
    rested,
    spiked,
    where_it_rests,
)
from spherical_motion.comparison.ladder.continuity import weights_written
from spherical_motion.comparison.ladder.radial_law import (
    epsilon_dominated,
    epsilon_seen,
    gradient_altered,
    in_eval_mode,
    not_scale_invariant,
)
from spherical_motion.comparison.ladder.samples import (
    dead,
    frozen,
    interval_too_wide,
    non_finite,
    too_few_samples,
)
from spherical_motion.comparison.ladder.step_law import step_differs
from spherical_motion.comparison.ladder.transient import (
    approaching,
    no_forecast,
    no_theory,
    no_weight_decay,
)
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import Reason, Verdict, VerdictKind

ALARMS = tuple(kind for kind in VerdictKind if kind.meaning.alarm)
"""Kinds that ask for action; a verdict of such a kind is none if its suspect is no alarm."""

Rule = Callable[[Evidence], Iterable[Reason]]


def judge(evidence: Evidence, rules: Iterable[tuple[VerdictKind, Rule]] | None = None) -> Verdict:
    """The verdict on one group in one stage, with its reasons and the numbers behind it.

    Args:
        evidence: from `gather`.
        rules: kinds and rules to try in this order; `RULES` if left out.

    Raises:
        InvalidArgument: no rule applies.
    """
    for kind, rule in RULES if rules is None else rules:
        if reasons := tuple(rule(evidence)):
            reasons += tuple(where_it_rests(kind, evidence))
            reasons += tuple(balance_holds(kind, evidence))
            reasons += tuple(approximate(evidence))
            reasons += tuple(rested(kind, evidence))
            reasons += tuple(changed_between_bursts(kind, evidence))
            reasons += tuple(gradient_changed(kind, reasons, evidence))
            reasons += tuple(spiked(kind, reasons, evidence))
            reasons += tuple(put_back(kind, evidence))
            reasons += tuple(decay_hidden_beside(kind, evidence))
            reasons += differing_settings(evidence.mixed)
            return Verdict.because(kind, reasons, evidence.numbers())
    raise InvalidArgument(
        f"judge(rules=...) must have a rule that applies to {evidence.group.name!r}, got none. "
        "Add yours to `comparison.RULES` instead of leaving some out."
    )


RULES: tuple[tuple[VerdictKind, Rule], ...] = (
    (VerdictKind.NON_FINITE, non_finite),
    (VerdictKind.FROZEN, frozen),
    (VerdictKind.WEIGHTS_WRITTEN, weights_written),
    (VerdictKind.STEP_DIFFERS, step_differs),
    (VerdictKind.GRADIENT_ALTERED, gradient_altered),
    (VerdictKind.NOT_SCALE_INVARIANT, in_eval_mode),
    (VerdictKind.EPSILON_DOMINATED, epsilon_seen),
    (VerdictKind.TOO_FEW_SAMPLES, too_few_samples),
    (VerdictKind.NOT_SCALE_INVARIANT, not_scale_invariant),
    (VerdictKind.EPSILON_DOMINATED, epsilon_dominated),
    (VerdictKind.FROZEN, dead),
    (VerdictKind.OFF_BALANCE, off_balance),
    (VerdictKind.IN_BALANCE, in_balance),
    (VerdictKind.TOO_FEW_SAMPLES, balance_too_wide),
    (VerdictKind.NO_PREDICTION, no_prediction),
    (VerdictKind.NO_WEIGHT_DECAY, no_weight_decay),
    (VerdictKind.NO_THEORY, no_theory),
    (VerdictKind.NO_PREDICTION, no_forecast),
    (VerdictKind.APPROACHING, approaching),
    (VerdictKind.IN_EQUILIBRIUM, in_equilibrium),
    (VerdictKind.TOO_FEW_SAMPLES, interval_too_wide),
    (VerdictKind.IN_BALANCE, another_angle),
    (VerdictKind.OFF, off),
)
"""The rules in the order in which they are tried; several rules may lead to one kind."""
