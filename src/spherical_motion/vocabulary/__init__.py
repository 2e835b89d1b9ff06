"""The nouns of the library: plain data, validated, without torch. Read this room first."""

from spherical_motion.vocabulary.causes import CAUSES, Cause
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.groups import InvariantGroup, Slice
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.reason import Reason, ReasonKind
from spherical_motion.vocabulary.schedule import Schedule
from spherical_motion.vocabulary.stages import Stage
from spherical_motion.vocabulary.suspect import Suspect
from spherical_motion.vocabulary.verdict import MEANINGS, Meaning, Tone, Verdict, VerdictKind

__all__ = [
    "CAUSES",
    "MEANINGS",
    "Cause",
    "EventKind",
    "Gram",
    "HyperParameters",
    "InvariantGroup",
    "Meaning",
    "Reason",
    "ReasonKind",
    "Schedule",
    "Slice",
    "Stage",
    "Suspect",
    "Tone",
    "Verdict",
    "VerdictKind",
]
