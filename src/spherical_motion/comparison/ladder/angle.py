"""Last rung: the angle is the predicted one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from spherical_motion import theory
from spherical_motion.comparison.balance import HIGH, LOW
from spherical_motion.comparison.evidence import Evidence, Predicted, Settled
from spherical_motion.comparison.ladder.balance_law import VAGUE
from spherical_motion.comparison.ladder.radial_law import RADIAL_LIMIT
from spherical_motion.comparison.ladder.reasons import Because
from spherical_motion.comparison.ladder.transient import FADED
from spherical_motion.comparison.motion import RESIDUAL_LIMIT
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import Reason

DRIFTED = 0.05
"""A relative change of the norm above this is named as the reason for another angle."""

UNEVEN = 0.90
"""Below this share of the RMS angle, the reason gives the mean angle: the steps are uneven."""


def in_equilibrium(e: Evidence) -> Iterator[Reason]:
    if isinstance(e, Settled) and e.ratio.meets(LOW, HIGH):
        yield from _ratio(Because.RATIO, e.ratio)
        if e.ratio.high - e.ratio.low > VAGUE:
            yield Because.VAGUE()
        if e.mean_ratio < UNEVEN * e.ratio.value:
            yield Because.UNEVEN(mean_ratio=e.mean_ratio)


def heavy_tailed(e: Evidence) -> Iterator[Reason]:
    if not isinstance(e, Settled):
        return
    law = e.rest.step_law
    if law.meets(LOW, HIGH) and abs(law.value - 1.0) < RADIAL_LIMIT:
        yield Because.HEAVY_TAILED(step_law=law.value, ratio=e.ratio.value, mean_ratio=e.mean_ratio)


def off(e: Evidence) -> Iterator[Reason]:
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
