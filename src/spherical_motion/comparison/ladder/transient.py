"""Sixth rung: on the way to equilibrium as forecast, or nothing to approach."""

from __future__ import annotations

import math
from collections.abc import Iterator

from spherical_motion.comparison.evidence import Approaching, Evidence, Measured, Predicted, Rest
from spherical_motion.comparison.ladder.bands import Place, place
from spherical_motion.comparison.ladder.reasons import TransientReason
from spherical_motion.vocabulary import Reason

FARTHEST_LOW, FARTHEST_HIGH = 0.75, 1.33
"""The transient is a leading-order law: the interval of its ratio must lie in this range."""

ACCURACY_FLOOR = 1e-6
"""Angles below this, in rad, are made by the rounding of float32 weights."""

STEPS_WORTH_SAYING = 0.2
"""While the gradient fades, fewer remaining steps than this share of the stage mean nothing."""

FADED = 0.5
"""A mean squared gradient under this share of what it was is named as the cause of a delay."""


def no_weight_decay(e: Evidence) -> Iterator[Reason]:
    """Nothing pulls inward."""
    if isinstance(e, Measured) and e.no_decay:
        yield TransientReason.NO_DECAY(change=(e.norm_change - 1.0) * 100.0)


def no_theory(e: Evidence) -> Iterator[Reason]:
    """No closed form for this optimizer or these settings."""
    if e.no_theory:
        yield TransientReason.NO_THEORY(why=e.no_theory.rstrip("."))
    elif e.illegal is not None:
        yield TransientReason.OUT_OF_RANGE(step=e.illegal)


def no_forecast(e: Evidence) -> Iterator[Reason]:
    """The angle is below what can be measured, or the forecast has none."""
    if not isinstance(e, Predicted):
        return
    if e.measured < ACCURACY_FLOOR:
        yield TransientReason.TOO_SMALL(angle=e.measured, floor=ACCURACY_FLOOR)
    elif math.isnan(e.ratio.value):
        why = "the transient forecasts no motion for these steps"
        if e.transient > math.pi:
            why = "the transient forecasts more than half a turn, which no step can make"
        yield TransientReason.NO_FORECAST(angle=e.measured, why=why)


def approaching(e: Evidence) -> Iterator[Reason]:
    """The angle follows the forecast."""
    if not isinstance(e, Approaching) or not follows(e):
        return
    if (rest := e.rest) is None:
        yield TransientReason.FOLLOWS_FORECAST(ratio=e.ratio.value)
        return
    yield TransientReason.ON_THE_WAY(
        forecast=e.transient / rest.equilibrium,
        steps=e.lasted,
        measured=e.measured / rest.equilibrium,
    )
    fading = rest.drive_change < FADED
    if fading:
        yield TransientReason.FADES(change=rest.drive_change)
    yield from _until(e, rest, fading)


def follows(e: Approaching) -> bool:
    """Whether the angle follows the forecast of a transient, a leading-order law."""
    low, high = min(1.0 - e.band, FARTHEST_LOW), max(1.0 + e.band, FARTHEST_HIGH)
    return place(e.ratio, low, high) is Place.INSIDE


def _until(e: Approaching, rest: Rest, fading: bool) -> Iterator[Reason]:
    """How many steps remain."""
    if not math.isfinite(rest.steps_more):
        yield TransientReason.NO_END()
    elif fading and rest.steps_more < STEPS_WORTH_SAYING * e.stage.steps:
        yield TransientReason.SETTLED_OTHERWISE()
    elif rest.steps_more == 0.0:
        if rest.steps_to_judge > 0:
            yield TransientReason.MORE_TO_JUDGE(steps=math.ceil(rest.steps_to_judge))
        else:
            yield TransientReason.STILL_CHANGING()
    else:
        once = round(rest.steps_more) <= 1
        yield (
            TransientReason.STEP_LEFT()
            if once
            else TransientReason.STEPS_LEFT(steps=rest.steps_more)
        )
        if fading:
            yield TransientReason.ONCE_STEADY()
