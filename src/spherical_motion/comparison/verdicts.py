"""From evidence to a verdict: rules, tried from the first to the last.

Nothing else in the library judges. A rule yields its reasons, none if it does not apply; the first
rule that applies decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from spherical_motion import theory
from spherical_motion.comparison.balance import HIGH, LOW
from spherical_motion.comparison.balance_rules import (
    VAGUE,
    approximate,
    balance_holds,
    in_balance,
    no_prediction,
    off_balance,
    short_stage,
    written_too,
)
from spherical_motion.comparison.evidence import (
    Approaching,
    Evidence,
    Measured,
    Predicted,
    Settled,
)
from spherical_motion.comparison.gathering import FEWEST_SAMPLES
from spherical_motion.comparison.motion import RESIDUAL_LIMIT
from spherical_motion.comparison.reasons import Because, differing_settings
from spherical_motion.errors import InvalidArgument
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import Reason, Verdict, VerdictKind

ALARMS = tuple(kind for kind in VerdictKind if kind.meaning.alarm)
"""Kinds that ask for action; a verdict of such a kind is no alarm if its suspect is harmless."""

FAR_LOW, FAR_HIGH = 0.85, 1.18
"""The transient is a leading-order law: an interval that misses even this range contradicts it."""

FARTHEST_LOW, FARTHEST_HIGH = 0.75, 1.33
"""... and so does a ratio outside this one, however wide its interval."""

WORTH_SAYING = 0.2
"""While the gradient fades, fewer remaining steps than this share of the stage mean nothing."""

RADIAL_LIMIT = 0.10
"""A radial gradient of this share of weight decay's pull shifts the angle by 5%."""

DEFECT_LIMIT = 0.05
"""|cos(w, g)| above which an unproven group is called not scale-invariant."""

BEYOND_EPSILON = 30.0
"""A defect above this multiple of what ε explains has another cause."""

DRIFTED = 0.05
"""A relative change of the norm above this is named as the reason for another angle."""

FADED = 0.5
"""A mean squared gradient under this share of what it was is named as the cause of a delay."""

UNEVEN = 0.90
"""Below this share of the RMS angle, the reason gives the mean angle: the steps are uneven."""


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
            reasons += tuple(written_too(evidence))
            reasons += tuple(balance_holds(kind, evidence))
            reasons += tuple(approximate(evidence))
            reasons += differing_settings(evidence.mixed)
            return Verdict.because(kind, reasons, evidence.numbers())
    raise InvalidArgument(
        f"judge(rules=...) must have a rule that applies to {evidence.group.name!r}, got none. "
        "Add yours to `comparison.RULES` instead of leaving some out."
    )


def _too_few_samples(e: Evidence) -> Iterator[Reason]:
    predictable = e.moved and not e.no_theory and not e.no_decay and e.illegal is None
    if e.samples + e.non_finite < FEWEST_SAMPLES:
        yield Because.FEW_SAMPLES(samples=e.samples, fewest=FEWEST_SAMPLES)
    elif predictable and not e.non_finite and e.driven < FEWEST_SAMPLES:
        yield Because.FEW_GRADIENTS(samples=e.samples, driven=e.driven)
    else:
        yield from short_stage(e)


def _non_finite(e: Evidence) -> Iterator[Reason]:
    if e.non_finite:
        once = e.non_finite == 1
        yield Because.NON_FINITE_ONCE() if once else Because.NON_FINITE(steps=e.non_finite)
        if e.non_finite_from is not None:
            yield Because.FIRST_AT(step=e.non_finite_from)


def _frozen(e: Evidence) -> Iterator[Reason]:
    if not e.moved:
        yield Because.RATE_ZERO() if e.lr_is_zero else Because.NO_MOTION()


def _no_weight_decay(e: Evidence) -> Iterator[Reason]:
    if isinstance(e, Measured) and e.no_decay:
        yield Because.NO_DECAY(change=(e.norm_change - 1.0) * 100.0)


def _not_scale_invariant(e: Evidence) -> Iterator[Reason]:
    if not isinstance(e, Measured):
        return
    if e.group.proven:
        if e.defect > max(DEFECT_LIMIT, BEYOND_EPSILON * e.expected_defect):
            yield Because.INVARIANCE_LOST(defect=e.defect)
    elif e.defect > DEFECT_LIMIT or abs(e.radial_share) > RADIAL_LIMIT:
        yield Because.NOT_CERTIFIED(defect=e.defect)


def _epsilon_dominated(e: Evidence) -> Iterator[Reason]:
    if isinstance(e, Measured) and abs(e.radial_share) > RADIAL_LIMIT:
        kind = Because.EPSILON_CANCELS if e.radial_share < 0 else Because.EPSILON_ADDS
        yield kind(share=abs(e.radial_share))


def _no_theory(e: Evidence) -> Iterator[Reason]:
    if e.no_theory:
        yield Because.NO_THEORY(why=e.no_theory.rstrip("."))
    elif e.illegal is not None:
        yield Because.OUT_OF_RANGE(step=e.illegal)


def _approaching(e: Evidence) -> Iterator[Reason]:
    if not isinstance(e, Approaching):
        return
    # A generous margin: the transient is a leading-order law.
    near = e.ratio.meets(FAR_LOW, FAR_HIGH) and FARTHEST_LOW <= e.ratio.value <= FARTHEST_HIGH
    if not near or e.residual > RESIDUAL_LIMIT:
        return
    if (rest := e.rest) is None:
        yield Because.FOLLOWS_FORECAST(ratio=e.ratio.value)
        return
    yield Because.ON_THE_WAY(
        forecast=e.transient / rest.equilibrium, measured=e.measured / rest.equilibrium
    )
    fading = rest.drive_change < FADED
    if fading:
        yield Because.FADES(change=rest.drive_change)
    if not math.isfinite(rest.steps_more):
        yield Because.NO_END()
    elif fading and rest.steps_more < WORTH_SAYING * e.stage.steps:
        yield Because.SETTLED_OTHERWISE()
    else:
        once = round(rest.steps_more) == 1
        yield Because.STEP_LEFT() if once else Because.STEPS_LEFT(steps=rest.steps_more)
        if fading:
            yield Because.ONCE_STEADY()


def _in_equilibrium(e: Evidence) -> Iterator[Reason]:
    if isinstance(e, Settled) and e.ratio.meets(LOW, HIGH):
        yield from _ratio(Because.RATIO, e.ratio)
        if e.ratio.high - e.ratio.low > VAGUE:
            yield Because.VAGUE()
        if e.mean_ratio < UNEVEN * e.ratio.value:
            yield Because.UNEVEN(mean_ratio=e.mean_ratio)


def _heavy_tailed(e: Evidence) -> Iterator[Reason]:
    if not isinstance(e, Settled):
        return
    law = e.rest.step_law
    if law.meets(LOW, HIGH) and abs(law.value - 1.0) < RADIAL_LIMIT:
        yield Because.HEAVY_TAILED(step_law=law.value, ratio=e.ratio.value, mean_ratio=e.mean_ratio)


def _off(e: Evidence) -> Iterator[Reason]:
    if not isinstance(e, Predicted):
        return
    if math.isnan(e.ratio.value):
        yield Because.NO_MOTION_FORECAST(angle=e.measured)
        return
    settled = isinstance(e, Settled)
    yield from _ratio(Because.RATIO if settled else Because.FORECAST_RATIO, e.ratio)
    yield _why_off(e)


def _why_off(e: Predicted) -> Reason:
    """The first cause that the evidence supports, the hardest evidence first."""
    if e.mixed and e.tug.balance.meets(LOW, HIGH):  # the residual takes one setting for all
        return Because.MIXED()
    if e.residual > RESIDUAL_LIMIT:
        return Because.LAW_BROKEN(residual=e.residual)
    if e.mixed:
        return Because.MIXED()
    if abs(e.radial_share) > RADIAL_LIMIT / 3:
        return Because.EPSILON(share=e.radial_share)
    if e.stage.hp is not None and theory.family_of(e.stage.hp).takes_entries_alike:
        return Because.UNEVEN_ENTRIES()
    if e.rest is not None and e.rest.drive_change < FADED:
        return Because.FADED(change=e.rest.drive_change)
    if abs(e.drift) > DRIFTED:
        return Because.NORM_MOVED(drift=e.drift)
    return Because.UNEXPLAINED() if math.isnan(e.residual) else Because.GRADIENT_CHANGED()


def _ratio(kind: Because, ratio: Estimate) -> Iterator[Reason]:
    """The ratio, with its interval if there is one."""
    yield kind(ratio=ratio.value)
    if not math.isnan(ratio.low):
        yield Because.INTERVAL(low=ratio.low, high=ratio.high)


RULES: tuple[tuple[VerdictKind, Rule], ...] = (
    (VerdictKind.TOO_FEW_SAMPLES, _too_few_samples),
    (VerdictKind.NON_FINITE, _non_finite),
    (VerdictKind.FROZEN, _frozen),
    (VerdictKind.IN_BALANCE, in_balance),
    (VerdictKind.OFF_BALANCE, off_balance),
    (VerdictKind.NO_PREDICTION, no_prediction),
    (VerdictKind.NO_WEIGHT_DECAY, _no_weight_decay),
    (VerdictKind.NOT_SCALE_INVARIANT, _not_scale_invariant),
    (VerdictKind.EPSILON_DOMINATED, _epsilon_dominated),
    (VerdictKind.NO_THEORY, _no_theory),
    (VerdictKind.APPROACHING, _approaching),
    (VerdictKind.IN_EQUILIBRIUM, _in_equilibrium),
    (VerdictKind.HEAVY_TAILED, _heavy_tailed),
    (VerdictKind.OFF, _off),
)
"""The rules in the order in which they are tried; several rules may lead to one kind."""
