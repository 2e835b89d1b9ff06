"""First rung: enough samples, finite, and moved."""

from __future__ import annotations

from collections.abc import Iterator

from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.gathering import FEWEST_SAMPLES
from spherical_motion.comparison.ladder.balance_law import short_stage
from spherical_motion.comparison.ladder.reasons import Because
from spherical_motion.vocabulary import Reason


def too_few_samples(e: Evidence) -> Iterator[Reason]:
    predictable = e.moved and not e.no_theory and not e.no_decay and e.illegal is None
    if e.samples + e.non_finite < FEWEST_SAMPLES:
        yield Because.FEW_SAMPLES(samples=e.samples, fewest=FEWEST_SAMPLES)
    elif predictable and not e.non_finite and e.driven < FEWEST_SAMPLES:
        yield Because.FEW_GRADIENTS(samples=e.samples, driven=e.driven)
    else:
        yield from short_stage(e)


def non_finite(e: Evidence) -> Iterator[Reason]:
    if e.non_finite:
        once = e.non_finite == 1
        yield Because.NON_FINITE_ONCE() if once else Because.NON_FINITE(steps=e.non_finite)
        if e.non_finite_from is not None:
            yield Because.FIRST_AT(step=e.non_finite_from)


def frozen(e: Evidence) -> Iterator[Reason]:
    if not e.moved:
        yield Because.RATE_ZERO() if e.lr_is_zero else Because.NO_MOTION()
