"""What each law says of a group, with what only all groups of a run together can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spherical_motion.comparison.evidence import Laws
from spherical_motion.comparison.laws import (
    continuity_of,
    step_law_of,
)
from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage


class WholeRun:
    """The motions of all groups of a run, and the laws that need several of them.

    Args:
        motions: by the group's name.
    """

    def __init__(self, motions: Mapping[str, Motion]) -> None:
        self._motions = motions

    def laws(
        self, name: str, stage: Stage, mixed: Sequence[tuple[float, float, float]] = ()
    ) -> Laws:
        """What each law says of a group in a stage."""
        motion = self._motions[name]
        return Laws(
            continuity=continuity_of(motion, stage),
            step=step_law_of(motion, stage, mixed),
        )
