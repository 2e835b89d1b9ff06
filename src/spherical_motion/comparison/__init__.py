"""Records × forecast: what was measured, what was to be expected, and what to conclude.

Read `evidence` for what is computed, `verdicts` for what it is taken to mean.
"""

from spherical_motion.comparison.curves import Curves
from spherical_motion.comparison.row import Row
from spherical_motion.comparison.table import Comparison, compare
from spherical_motion.comparison.verdicts import ALARMS, judge

__all__ = ["ALARMS", "Comparison", "Curves", "Row", "compare", "judge"]
