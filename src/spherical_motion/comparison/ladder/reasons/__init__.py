"""The kinds of reasons that the rungs give, with the words of each: one enum a rung.

Main clauses first; those that begin with punctuation continue the one before. Nothing parses these
words.
"""

from spherical_motion.comparison.ladder.reasons.angle import AngleReason
from spherical_motion.comparison.ladder.reasons.balance_law import BalanceReason
from spherical_motion.comparison.ladder.reasons.clauses import BesideReason
from spherical_motion.comparison.ladder.reasons.continuity import WriteReason
from spherical_motion.comparison.ladder.reasons.radial_law import RadialReason
from spherical_motion.comparison.ladder.reasons.samples import SampleReason
from spherical_motion.comparison.ladder.reasons.step_law import StepReason
from spherical_motion.comparison.ladder.reasons.stillness import StillReason
from spherical_motion.comparison.ladder.reasons.transient import TransientReason

__all__ = [
    "AngleReason",
    "BalanceReason",
    "BesideReason",
    "RadialReason",
    "SampleReason",
    "StepReason",
    "StillReason",
    "TransientReason",
    "WriteReason",
]
