"""Why a parameter is in no group, and what else is worth knowing.

In: everything that was found. Out: an `Uncovered` for each parameter in no group, warnings, notes.
"""

from spherical_motion.invariance.reasons.explain import Findings, reason_for
from spherical_motion.invariance.reasons.notes import (
    equivalent_streams,
    large_epsilons,
    not_examined,
    partial_cover,
    what_joins,
)
from spherical_motion.invariance.reasons.nothing import closest, why_nothing
from spherical_motion.invariance.reasons.uncovered import Uncovered, Why
