"""From evidence to a verdict: one rule a kind, tried in the order of `VerdictKind`.

Nothing else in the library judges. Each rule returns the reason in plain words, or None when it
does not apply; the first that applies decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType

from spherical_motion import theory
from spherical_motion.comparison.evidence import FEWEST_SAMPLES, Evidence
from spherical_motion.comparison.series import RESIDUAL_LIMIT
from spherical_motion.vocabulary.verdict import Verdict, VerdictKind

__all__ = ["ALARMS", "RULES", "judge"]

ALARMS = (
    VerdictKind.NON_FINITE,
    VerdictKind.OFF,
    VerdictKind.FROZEN,
    VerdictKind.NOT_SCALE_INVARIANT,
    VerdictKind.EPSILON_DOMINATED,
)
"""Verdicts that ask for action."""

LOW, HIGH = 0.95, 1.05
"""A ratio whose 95% interval meets this range agrees with the theory."""

FAR_LOW, FAR_HIGH = 0.85, 1.18
"""The transient is a leading-order law: an interval that misses even this range contradicts it."""

FARTHEST_LOW, FARTHEST_HIGH = 0.75, 1.33
"""... and so does a ratio outside this one, however wide its interval."""

WORTH_SAYING = 0.2
"""While the gradient fades, a remaining time under this share of the stage means nothing."""

VAGUE = 0.30
"""An interval wider than this says little; the reason then admits it."""

RADIAL_LIMIT = 0.10
"""A radial gradient of this share of the weight decay's pull shifts the angle by 5%."""

DEFECT_LIMIT = 0.05
"""|cos(w, g)| above which an unproven group is called not scale-invariant."""

BEYOND_EPSILON = 30.0
"""So many times the defect that ε explains is not ε's doing."""

FADED = 0.5
"""A mean squared gradient under this share of what it was is named as the cause of a delay."""

UNEVEN = 0.90
"""A mean angle under this share of the RMS angle is worth a word: the steps are uneven."""


def judge(evidence: Evidence) -> Verdict:
    """The verdict on one group in one stage, with its reason and the numbers behind it."""
    for kind, rule in RULES.items():
        reason = rule(evidence)
        if reason is not None:
            return Verdict(kind, reason + _mixed(evidence), evidence.numbers())
    raise AssertionError("the last rule applies to everything")


def _too_few_samples(e: Evidence) -> str | None:
    if e.samples + e.non_finite < FEWEST_SAMPLES:
        return f"{e.samples} sampled steps in this stage; at least {FEWEST_SAMPLES} are needed"
    predictable = e.moved and not e.no_theory and not e.no_decay and e.illegal is None
    if predictable and not e.non_finite and e.driven < FEWEST_SAMPLES:
        return (
            f"the steps are known, but a gradient at only {e.driven} of {e.samples}: is it cleared "
            "before optimizer.step() has returned?"
        )
    return None


def _non_finite(e: Evidence) -> str | None:
    if not e.non_finite:
        return None
    times = "step" if e.non_finite == 1 else "steps"
    text = f"weights or gradient were NaN or infinite at {e.non_finite:,} {times} of this stage"
    return text + (
        f", first at step {e.non_finite_from:,}" if e.non_finite_from is not None else ""
    )


def _frozen(e: Evidence) -> str | None:
    if e.moved:
        return None
    why = "the learning rate is 0" if e.lr_is_zero else "no gradient, or not the optimizer's"
    return f"no sampled step changed the weights: {why}"


def _no_weight_decay(e: Evidence) -> str | None:
    if not e.no_decay:
        return None
    change = (e.norm_change - 1.0) * 100.0
    return (
        "without weight decay there is no equilibrium: nothing holds the norm "
        f"({change:+.1f}% in this stage), and the angle shrinks as it grows"
    )


def _not_scale_invariant(e: Evidence) -> str | None:
    if e.group.proven:
        limit = max(DEFECT_LIMIT, BEYOND_EPSILON * e.expected_defect)
        if not e.defect > limit:
            return None
        return (
            f"it was proven invariant when the run began, but now the gradient has a radial part "
            f"(cosine {e.defect:.2g}), far more than the norm layer's ε explains: is that layer in "
            "eval mode, or was the model changed?"
        )
    if not (e.defect > DEFECT_LIMIT or abs(e.radial_share) > RADIAL_LIMIT):
        return None
    return (
        f"the gradient is not orthogonal to the weights (cosine {e.defect:.2g}), and no "
        "certificate says that it should be"
    )


def _epsilon_dominated(e: Evidence) -> str | None:
    if not abs(e.radial_share) > RADIAL_LIMIT:
        return None
    does = "cancels" if e.radial_share < 0 else "adds"
    of = "of" if e.radial_share < 0 else "to"
    return (
        "invariant but for the ε of its norm layer, whose input has become so small that ε "
        f"{does} {abs(e.radial_share):.0%} {of} the pull of weight decay"
    )


def _no_theory(e: Evidence) -> str | None:
    if e.no_theory:
        return e.no_theory.rstrip(".")
    if e.illegal is not None:
        return f"at step {e.illegal:,} the optimizer was told settings outside any theory's range"
    return None


def _approaching(e: Evidence) -> str | None:
    if e.settled or not _follows_forecast(e):
        return None
    if e.stage.hp is None:
        return (
            "the settings vary, so the equilibrium itself moves; the angle follows the forecast "
            f"(measured/forecast {e.ratio.value:.2f})"
        )
    text = f"forecast at {e.transient / e.equilibrium:.2f} of equilibrium by now, measured "
    text += f"{e.measured / e.equilibrium:.2f}"
    fading = e.drive_change < FADED
    if fading:
        text += f"; the gradient fades (its square × {e.drive_change:.2g} in this stage), which "
        text += "lets the norm shrink further"
    if not math.isfinite(e.steps_more):
        return text + "; with next to no gradient left, nothing says when"
    if fading and e.steps_more < WORTH_SAYING * e.stage.steps:
        return text + "; it is settled but for that"
    text += f"; about {e.steps_more:,.0f} more steps to within 5%"
    return text + (", once it has stopped fading" if fading else "")


def _in_equilibrium(e: Evidence) -> str | None:
    if not (e.settled and e.ratio.meets(LOW, HIGH)):
        return None
    text = f"turns at {e.ratio.value:.2f} of the predicted angle{_interval(e)}"
    if e.ratio.high - e.ratio.low > VAGUE:
        text += "; too few independent steps to tell more closely"
    if e.mean_ratio < UNEVEN * e.ratio.value:
        text += f"; the steps are uneven, the plain mean is only {e.mean_ratio:.2f}"
    return text


def _heavy_tailed(e: Evidence) -> str | None:
    balanced = e.step_law.meets(LOW, HIGH) and abs(e.step_law.value - 1.0) < RADIAL_LIMIT
    if not (e.settled and balanced):
        return None
    return (
        f"steps and norm balance (√(mean D/mean R) at {e.step_law.value:.2f} of its law), but the "
        f"RMS angle is at {e.ratio.value:.2f} and the mean at {e.mean_ratio:.2f}: a few large "
        "gradients carry most of the motion"
    )


def _off(e: Evidence) -> str | None:
    against = "the predicted angle" if e.settled else "the forecast"
    if math.isnan(e.ratio.value):
        return f"measured {e.measured:.3g} rad a step, and the forecast is not to move at all"
    text = f"turns at {e.ratio.value:.2f} of {against}{_interval(e)}: "
    if e.residual > RESIDUAL_LIMIT:
        return text + (
            f"the steps break the law of motion (residual {e.residual:.2g}), so something beside "
            "this optimizer writes the weights, skips steps or clips single entries"
        )
    if e.mixed:
        return text + "its members do not share one setting"
    if abs(e.radial_share) > RADIAL_LIMIT / 3:
        return text + (
            f"the ε of its norm layer changes weight decay's pull by {e.radial_share:+.0%}"
        )
    caveat = "" if e.stage.hp is None else theory.family_of(e.stage.hp).caveat
    if caveat:
        return text + caveat
    if e.drive_change < FADED:
        return text + f"the gradient faded (its square × {e.drive_change:.2g} in this stage)"
    if abs(e.drift) > 0.05:
        return text + f"its norm moved by {e.drift:+.0%} while it was judged"
    if math.isnan(e.residual):
        return text + "the norm is at rest, and the six products of this optimizer say no more"
    return text + (
        "each step obeys the law of motion and the norm is at rest, so the gradient's size must "
        "have changed within the stage"
    )


def _follows_forecast(e: Evidence) -> bool:
    """Whether the transient explains what was measured, by a generous margin."""
    near = e.ratio.meets(FAR_LOW, FAR_HIGH) and FARTHEST_LOW <= e.ratio.value <= FARTHEST_HIGH
    return near and not e.residual > RESIDUAL_LIMIT


RULES: MappingProxyType[VerdictKind, Callable[[Evidence], str | None]] = MappingProxyType(
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


def _interval(e: Evidence) -> str:
    if math.isnan(e.ratio.low):
        return ""
    return f" (95% interval {e.ratio.low:.2f} to {e.ratio.high:.2f})"


def _mixed(e: Evidence) -> str:
    names = ("learning rate", "weight decay", "momentum")
    values = [sorted(set(column)) for column in zip(*e.mixed, strict=True)]
    differing = [
        f"{name} ({', '.join(f'{v:g}' for v in found)})"
        for name, found in zip(names, values, strict=False)
        if len(found) > 1
    ]
    return f". Members differ in {' and '.join(differing)}" if differing else ""
