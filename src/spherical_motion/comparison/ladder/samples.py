"""First rung: it is finite, it moves, it has a gradient, and the steps are enough to judge.

A group that stopped is told before anything else. The exact laws need a pair of steps, and what
the audit saw needs one, so both stand before the count of samples. All statistics stand behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from spherical_motion.comparison.evidence import Approaching, Evidence, Predicted
from spherical_motion.comparison.gathering import FEWEST_SAMPLES
from spherical_motion.comparison.ladder.balance_law import short_stage
from spherical_motion.comparison.ladder.bands import Place, place
from spherical_motion.comparison.ladder.reasons import SampleReason, StillReason
from spherical_motion.comparison.ladder.transient import FARTHEST_HIGH, FARTHEST_LOW
from spherical_motion.vocabulary import Reason

MEMORIES_SPANNED = 3
"""Judged steps must span this many times 1/(1 - α): nearer ones are alike."""

HALF = 0.5


def non_finite(e: Evidence) -> Iterator[Reason]:
    """NaN or infinity."""
    if e.non_finite:
        once = e.non_finite == 1
        yield (
            SampleReason.NON_FINITE_ONCE() if once else SampleReason.NON_FINITE(steps=e.non_finite)
        )
        if e.non_finite_from is not None:
            yield SampleReason.FIRST_AT(first=e.non_finite_from)


def frozen(e: Evidence) -> Iterator[Reason]:
    """It is not stepped, did not move, stopped moving, or lost its gradient."""
    quiet = e.laws.silence
    if e.laws.audited.replaced is not None:
        yield StillReason.REPLACED(first=e.laws.audited.replaced)
    elif e.laws.left_behind is not None:
        first, why = e.laws.left_behind
        yield StillReason.LEFT_BEHIND(first=first, why=why.rstrip("."))
    elif not e.moved:
        if e.samples < FEWEST_SAMPLES:
            return
        if e.lr_is_zero:
            yield StillReason.RATE_ZERO()
        else:
            has_gradient = quiet.gradient_while_frozen > HALF
            yield StillReason.NEVER_MOVED() if has_gradient else StillReason.NO_MOTION()
    elif quiet.dead_since is not None:
        if not (e.laws.part_alive or e.laws.all_dead):
            absent = "it is None" if quiet.absent_at_end else "all of it is 0"
            yield StillReason.NO_GRADIENT(first=quiet.dead_since, absent=absent)
    elif quiet.frozen_since is not None and not quiet.rate_is_zero > HALF:
        yield StillReason.STOPPED(first=quiet.frozen_since)


def dead(e: Evidence) -> Iterator[Reason]:
    """It has no gradient for a reason that is no alarm; so this comes after all alarms."""
    since = e.laws.silence.dead_since
    if since is not None and e.laws.part_alive:
        yield StillReason.DEAD_PART(first=since)
    elif since is not None and e.laws.all_dead:
        yield StillReason.ALL_DEAD(first=since)


def too_few_samples(e: Evidence) -> Iterator[Reason]:
    """Too few steps, gradients, or memories of the momentum."""
    predictable = e.moved and not e.no_theory and not e.no_decay and e.illegal is None
    if e.samples + e.non_finite < FEWEST_SAMPLES:
        yield SampleReason.FEW_SAMPLES(samples=e.samples, fewest=FEWEST_SAMPLES)
    elif predictable and not e.non_finite and e.driven < FEWEST_SAMPLES:
        yield SampleReason.FEW_GRADIENTS(samples=e.samples, driven=e.driven)
    elif isinstance(e, Predicted) and e.lasted < MEMORIES_SPANNED * e.memory:
        yield SampleReason.SHORT_WINDOW(
            steps=e.lasted, momentum=1.0 - 1.0 / e.memory, fewest=MEMORIES_SPANNED * e.memory
        )
    else:
        yield from short_stage(e)


def interval_too_wide(e: Evidence) -> Iterator[Reason]:
    """The interval of the angle's ratio does not say where it lies, however many samples it has."""
    if not isinstance(e, Predicted) or math.isnan(e.ratio.value):
        return
    low, high = 1.0 - e.band, 1.0 + e.band
    if isinstance(e, Approaching):
        low, high = min(low, FARTHEST_LOW), max(high, FARTHEST_HIGH)
    if place(e.ratio, low, high) is not Place.UNCLEAR:
        return
    if math.isnan(e.ratio.low):
        yield SampleReason.NO_INTERVAL(judged=e.judged, ratio=e.ratio.value)
    else:
        yield SampleReason.TOO_WIDE(low=e.ratio.low, high=e.ratio.high, least=low, most=high)
