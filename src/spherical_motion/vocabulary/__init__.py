"""The nouns of the library: plain data, validated, without torch. Read this room first."""

from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.groups import InvariantGroup, Slice
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule import Schedule
from spherical_motion.vocabulary.stages import Stage
from spherical_motion.vocabulary.verdict import Verdict, VerdictKind

__all__ = [
    "EventKind",
    "Gram",
    "HyperParameters",
    "InvariantGroup",
    "Schedule",
    "Slice",
    "Stage",
    "Verdict",
    "VerdictKind",
]
