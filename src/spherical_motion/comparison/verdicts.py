"""From evidence to a verdict: one rule a kind, tried in the order of `VerdictKind`.

Nothing else in the library judges. Each rule returns its reasons, or None when it does not apply;
the first that applies decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from spherical_motion import theory
from spherical_motion.comparison.evidence import FEWEST_SAMPLES, Evidence
from spherical_motion.comparison.reasons import Because, differing_settings
from spherical_motion.comparison.series import RESIDUAL_LIMIT
from spherical_motion.comparison.statistics import Estimate
from spherical_motion.vocabulary.reason import Reason
from spherical_motion.vocabulary.verdict import Verdict, VerdictKind

__all__ = ["ALARMS", "RULES", "Reasons", "Rule", "judge"]

ALARMS = tuple(kind for kind in VerdictKind if kind.meaning.alarm)
"""Kinds that ask for action; a verdict of such a kind is no alarm if its suspect is harmless."""

LOW, HIGH = 0.95, 1.05
"""A ratio whose 95% interval meets this range agrees with the theory."""

FAR_LOW, FAR_HIGH = 0.85, 1.18
"""The transient is a leading-order law: an interval that misses even this range contradicts it."""

FARTHEST_LOW, FARTHEST_HIGH = 0.75, 1.33
"""... and so does a ratio outside this one, however wide its interval."""

WORTH_SAYING = 0.2
"""While the gradient fades, fewer remaining steps than this share of the stage mean nothing."""

VAGUE = 0.30
"""An interval wider than this says little, and the reason admits it."""

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


Reasons = tuple[Reason, ...]
Rule = Callable[[Evidence], Reasons | None]


def judge(evidence: Evidence, rules: Mapping[VerdictKind, Rule] | None = None) -> Verdict:
    """The verdict on one group in one stage, with its reasons and the numbers behind it.

    Args:
        evidence: from `gather`.
        rules: tried in this order; `RULES` if left out.
    """
    for kind, rule in (RULES if rules is None else rules).items():
        reasons = rule(evidence)
        if reasons is not None:
            reasons += differing_settings(evidence.mixed)
            return Verdict.because(kind, reasons, evidence.numbers())
    raise AssertionError("the last rule applies to everything")


def _too_few_samples(e: Evidence) -> Reasons | None:
    if e.samples + e.non_finite < FEWEST_SAMPLES:
        return (Reason(Because.FEW_SAMPLES, {"samples": e.samples, "fewest": FEWEST_SAMPLES}),)
    predictable = e.moved and not e.no_theory and not e.no_decay and e.illegal is None
    if predictable and not e.non_finite and e.driven < FEWEST_SAMPLES:
        return (Reason(Because.FEW_GRADIENTS, {"samples": e.samples, "driven": e.driven}),)
    return None


def _non_finite(e: Evidence) -> Reasons | None:
    if not e.non_finite:
        return None
    kind = Because.NON_FINITE_ONCE if e.non_finite == 1 else Because.NON_FINITE
    found = (Reason(kind, {"steps": e.non_finite}),)
    if e.non_finite_from is not None:
        found += (Reason(Because.FIRST_AT, {"step": e.non_finite_from}),)
    return found


def _frozen(e: Evidence) -> Reasons | None:
    if e.moved:
        return None
    return (Reason(Because.RATE_ZERO if e.lr_is_zero else Because.NO_MOTION),)


def _no_weight_decay(e: Evidence) -> Reasons | None:
    if not e.no_decay:
        return None
    return (Reason(Because.NO_DECAY, {"change": (e.norm_change - 1.0) * 100.0}),)


def _not_scale_invariant(e: Evidence) -> Reasons | None:
    if e.group.proven:
        limit = max(DEFECT_LIMIT, BEYOND_EPSILON * e.expected_defect)
        lost = e.defect > limit
        return (Reason(Because.INVARIANCE_LOST, {"defect": e.defect}),) if lost else None
    if e.defect > DEFECT_LIMIT or abs(e.radial_share) > RADIAL_LIMIT:
        return (Reason(Because.NOT_CERTIFIED, {"defect": e.defect}),)
    return None


def _epsilon_dominated(e: Evidence) -> Reasons | None:
    if not abs(e.radial_share) > RADIAL_LIMIT:
        return None
    kind = Because.EPSILON_CANCELS if e.radial_share < 0 else Because.EPSILON_ADDS
    return (Reason(kind, {"share": abs(e.radial_share)}),)


def _no_theory(e: Evidence) -> Reasons | None:
    if e.no_theory:
        return (Reason(Because.NO_THEORY, {"why": e.no_theory.rstrip(".")}),)
    if e.illegal is not None:
        return (Reason(Because.OUT_OF_RANGE, {"step": e.illegal}),)
    return None


def _approaching(e: Evidence) -> Reasons | None:
    if e.settled or not _follows_forecast(e):
        return None
    if e.stage.hp is None:
        return (Reason(Because.FOLLOWS_FORECAST, {"ratio": e.ratio.value}),)
    shares = {"forecast": e.transient / e.equilibrium, "measured": e.measured / e.equilibrium}
    found = (Reason(Because.ON_THE_WAY, shares),)
    fading = e.drive_change < FADED
    if fading:
        found += (Reason(Because.FADES, {"change": e.drive_change}),)
    if not math.isfinite(e.steps_more):
        return (*found, Reason(Because.NO_END))
    if fading and e.steps_more < WORTH_SAYING * e.stage.steps:
        return (*found, Reason(Because.SETTLED_OTHERWISE))
    found += (Reason(Because.STEPS_LEFT, {"steps": e.steps_more}),)
    return (*found, Reason(Because.ONCE_STEADY)) if fading else found


def _in_equilibrium(e: Evidence) -> Reasons | None:
    if not (e.settled and e.ratio.meets(LOW, HIGH)):
        return None
    found = _ratio(Because.RATIO, e.ratio)
    if e.ratio.high - e.ratio.low > VAGUE:
        found += (Reason(Because.VAGUE),)
    if e.mean_ratio < UNEVEN * e.ratio.value:
        found += (Reason(Because.UNEVEN, {"mean_ratio": e.mean_ratio}),)
    return found


def _heavy_tailed(e: Evidence) -> Reasons | None:
    balanced = e.step_law.meets(LOW, HIGH) and abs(e.step_law.value - 1.0) < RADIAL_LIMIT
    if not (e.settled and balanced):
        return None
    numbers = {"step_law": e.step_law.value, "ratio": e.ratio.value, "mean_ratio": e.mean_ratio}
    return (Reason(Because.HEAVY_TAILED, numbers),)


def _off(e: Evidence) -> Reasons | None:
    if math.isnan(e.ratio.value):
        return (Reason(Because.NO_MOTION_FORECAST, {"angle": e.measured}),)
    turns = _ratio(Because.RATIO if e.settled else Because.FORECAST_RATIO, e.ratio)
    return (*turns, _why_off(e))


def _why_off(e: Evidence) -> Reason:
    """The first cause that the evidence supports, the hardest evidence first."""
    if e.residual > RESIDUAL_LIMIT:
        return Reason(Because.LAW_BROKEN, {"residual": e.residual})
    if e.mixed:
        return Reason(Because.MIXED)
    if abs(e.radial_share) > RADIAL_LIMIT / 3:
        return Reason(Because.EPSILON, {"share": e.radial_share})
    if e.stage.hp is not None and theory.family_of(e.stage.hp) is theory.Family.ADAM_L2:
        return Reason(Because.UNEVEN_ENTRIES)
    if e.drive_change < FADED:
        return Reason(Because.FADED, {"change": e.drive_change})
    if abs(e.drift) > DRIFTED:
        return Reason(Because.NORM_MOVED, {"drift": e.drift})
    return Reason(Because.UNEXPLAINED if math.isnan(e.residual) else Because.GRADIENT_CHANGED)


def _follows_forecast(e: Evidence) -> bool:
    """Whether the transient explains what was measured, by a generous margin."""
    near = e.ratio.meets(FAR_LOW, FAR_HIGH) and FARTHEST_LOW <= e.ratio.value <= FARTHEST_HIGH
    return near and not e.residual > RESIDUAL_LIMIT


def _ratio(kind: Because, ratio: Estimate) -> Reasons:
    """The ratio, with its interval if there is one."""
    found = (Reason(kind, {"ratio": ratio.value}),)
    if math.isnan(ratio.low):
        return found
    return (*found, Reason(Because.INTERVAL, {"low": ratio.low, "high": ratio.high}))


RULES: Mapping[VerdictKind, Rule] = MappingProxyType(
    {
        VerdictKind.TOO_FEW_SAMPLES: _too_few_samples,
        VerdictKind.NON_FINITE: _non_finite,
        VerdictKind.FROZEN: _frozen,
        VerdictKind.NO_WEIGHT_DECAY: _no_weight_decay,
        VerdictKind.NOT_SCALE_INVARIANT: _not_scale_invariant,
        VerdictKind.EPSILON_DOMINATED: _epsilon_dominated,
        VerdictKind.NO_THEORY: _no_theory,
        VerdictKind.APPROACHING: _approaching,
        VerdictKind.IN_EQUILIBRIUM: _in_equilibrium,
        VerdictKind.HEAVY_TAILED: _heavy_tailed,
        VerdictKind.OFF: _off,
    }
)
"""One rule a kind, in the order of the enum."""
