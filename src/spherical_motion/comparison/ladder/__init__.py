"""The ladder: statements about a group in a stage, from hard to soft; the first that fails decides.

In: `Evidence`. Out: a `Verdict`. One rung a file.
"""

from spherical_motion.comparison.ladder.verdicts import ALARMS, RULES, Rule, judge

__all__ = ["ALARMS", "RULES", "Rule", "judge"]
