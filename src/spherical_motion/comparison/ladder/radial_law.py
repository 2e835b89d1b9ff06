"""Fourth rung: the gradient of a certified group has no part along the weights."""

from __future__ import annotations

from collections.abc import Iterator

from spherical_motion.comparison.evidence import Evidence, Measured
from spherical_motion.comparison.ladder.reasons import Because
from spherical_motion.vocabulary import Reason

RADIAL_LIMIT = 0.10
"""A radial gradient of this share of weight decay's pull shifts the angle by 5%."""

DEFECT_LIMIT = 0.05
"""|cos(w, g)| above which an unproven group is called not scale-invariant."""

BEYOND_EPSILON = 30.0
"""A defect above this multiple of what ε explains has another cause."""


def not_scale_invariant(e: Evidence) -> Iterator[Reason]:
    if not isinstance(e, Measured):
        return
    if e.group.proven:
        if e.defect > max(DEFECT_LIMIT, BEYOND_EPSILON * e.expected_defect):
            yield Because.INVARIANCE_LOST(defect=e.defect)
    elif e.defect > DEFECT_LIMIT or abs(e.radial_share) > RADIAL_LIMIT:
        yield Because.NOT_CERTIFIED(defect=e.defect)


def epsilon_dominated(e: Evidence) -> Iterator[Reason]:
    if isinstance(e, Measured) and abs(e.radial_share) > RADIAL_LIMIT:
        kind = Because.EPSILON_CANCELS if e.radial_share < 0 else Because.EPSILON_ADDS
        yield kind(share=abs(e.radial_share))
