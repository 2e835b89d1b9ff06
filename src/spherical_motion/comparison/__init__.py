"""Records × forecast: what was measured, what was to be expected, and what to conclude.

In come `Records`; out comes a `Comparison` of `Row`s, each with a `Verdict`. Read `gather` for what
is computed, the variants of `Evidence` for what it may be, `RULES` for what it is taken to mean.
"""

from spherical_motion.comparison.curves import Curves
from spherical_motion.comparison.evidence import (
    Approaching,
    Evidence,
    Measured,
    NotJudged,
    Predicted,
    Rest,
    Settled,
)
from spherical_motion.comparison.gathering import gather
from spherical_motion.comparison.reasons import Because
from spherical_motion.comparison.row import Row
from spherical_motion.comparison.table import Comparison, compare
from spherical_motion.comparison.verdicts import ALARMS, RULES, Rule, judge

__all__ = [
    "ALARMS",
    "Approaching",
    "Because",
    "Comparison",
    "Curves",
    "Evidence",
    "Measured",
    "NotJudged",
    "Predicted",
    "RULES",
    "Rest",
    "Row",
    "Rule",
    "Settled",
    "compare",
    "gather",
    "judge",
]
