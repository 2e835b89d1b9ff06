"""Sixth rung: on the way to equilibrium as forecast."""

from __future__ import annotations

import math
from collections.abc import Iterator

from spherical_motion.comparison.evidence import Approaching, Evidence, Measured
from spherical_motion.comparison.ladder.reasons import Because
from spherical_motion.comparison.motion import RESIDUAL_LIMIT
from spherical_motion.vocabulary import Reason

FAR_LOW, FAR_HIGH = 0.85, 1.18
"""The transient is a leading-order law: an interval that misses even this range contradicts it."""

FARTHEST_LOW, FARTHEST_HIGH = 0.75, 1.33
"""... and so does a ratio outside this one, however wide its interval."""

WORTH_SAYING = 0.2
"""While the gradient fades, fewer remaining steps than this share of the stage mean nothing."""

FADED = 0.5
"""A mean squared gradient under this share of what it was is named as the cause of a delay."""


def no_weight_decay(e: Evidence) -> Iterator[Reason]:
    if isinstance(e, Measured) and e.no_decay:
        yield Because.NO_DECAY(change=(e.norm_change - 1.0) * 100.0)


def no_theory(e: Evidence) -> Iterator[Reason]:
    if e.no_theory:
        yield Because.NO_THEORY(why=e.no_theory.rstrip("."))
    elif e.illegal is not None:
        yield Because.OUT_OF_RANGE(step=e.illegal)


def approaching(e: Evidence) -> Iterator[Reason]:
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
