"""Records × forecast: measured motion, predicted motion, and a verdict on each group and stage.

In: `Records`. Out: a `Comparison` of `Row`s, each with a `Verdict`. `gather` computes one
of the variants of `Evidence`; `RULES` judge it.
"""

from spherical_motion.comparison.auditing import Audit, AuditRow, Finding, audit
from spherical_motion.comparison.columns import known_columns
from spherical_motion.comparison.curves import Curves
from spherical_motion.comparison.evidence import (
    BAND,
    Approaching,
    Evidence,
    Laws,
    Measured,
    NotJudged,
    Predicted,
    Rest,
    Settled,
)
from spherical_motion.comparison.findings import Row
from spherical_motion.comparison.force_curves import ForceCurves
from spherical_motion.comparison.forces import Forces, TugOfWar
from spherical_motion.comparison.gathering import gather
from spherical_motion.comparison.ladder import ALARMS, RULES, Rule, judge
from spherical_motion.comparison.table import Comparison, compare

__all__ = [
    "ALARMS",
    "BAND",
    "Approaching",
    "Audit",
    "AuditRow",
    "Comparison",
    "Curves",
    "Evidence",
    "Finding",
    "ForceCurves",
    "Forces",
    "Laws",
    "Measured",
    "NotJudged",
    "Predicted",
    "RULES",
    "Rest",
    "Row",
    "Rule",
    "Settled",
    "TugOfWar",
    "audit",
    "compare",
    "gather",
    "judge",
    "known_columns",
]
