"""What each law says of a group, with what only all groups of a run together can show."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from spherical_motion.comparison.evidence import Laws
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.laws import (
    RadialPulls,
    ScaleChange,
    continuity_of,
    mend,
    radial_law_of,
    radial_pulls,
    scale_changes,
    silence,
    stale,
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
        self._radial: dict[tuple[int, int], RadialPulls] = {}

    def laws(
        self,
        name: str,
        stage: Stage,
        mixed: Sequence[tuple[float, float, float]] = (),
        tug: TugOfWar | None = None,
    ) -> Laws:
        """What each law says of a group in a stage.

        Args:
            name: of the group.
            stage: the steps to look at.
            mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
            tug: `tug_of_war` of them, if it is at hand.
        """
        motion = self._motions[name]
        quiet = silence(motion, stage)
        since = quiet.dead_since
        return Laws(
            continuity=continuity_of(motion, stage),
            step=step_law_of(motion, stage, mixed),
            radial=radial_law_of(motion, stage, pulls=self._pulls(stage.start, stage.stop)),
            silence=quiet,
            stale=stale(motion, stage),
            mends=mend(motion, stage, mixed),
            scale_changes=tuple(
                change for change in self._scale_changes if stage.start <= change.step < stage.stop
            ),
            part_alive=since is not None and self._part_is_alive(motion, since, stage.stop),
        )

    def _pulls(self, start: int, stop: int) -> RadialPulls:
        if (start, stop) not in self._radial:
            self._radial[start, stop] = radial_pulls(self._motions.values(), start, stop)
        return self._radial[start, stop]

    @functools.cached_property
    def _scale_changes(self) -> tuple[ScaleChange, ...]:
        return scale_changes(self._motions.values())

    def _part_is_alive(self, motion: Motion, start: int, stop: int) -> bool:
        """Whether another group of the same tensors has a gradient in these steps."""
        tensors = set(motion.group.parameters)
        return any(
            bool((other.within(start, stop).gram.gg > 0).any())
            for other in self._motions.values()
            if other is not motion and not tensors.isdisjoint(other.group.parameters)
        )
