"""What each law says of a group, with what only all groups of a run together can show."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from spherical_motion.comparison.evidence import Laws
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.laws import (
    HiddenBeside,
    RadialPulls,
    ScaleChange,
    assumed_of,
    continuity_of,
    hidden_beside,
    mend,
    radial_law_of,
    radial_pulls,
    scale_changes,
    silence,
    spike_of,
    stale,
    step_law_of,
)
from spherical_motion.comparison.laws.audited import audited_steps
from spherical_motion.comparison.laws.audited_run import AuditedRun
from spherical_motion.comparison.laws.planned import Planned, PlannedRun
from spherical_motion.comparison.motion import Motion
from spherical_motion.records import Records
from spherical_motion.vocabulary import EventKind, Stage


class WholeRun:
    """The motions of all groups of a run, and the laws that need several of them.

    Args:
        motions: by the group's name.
        records: what the motions were read from.
    """

    def __init__(self, motions: Mapping[str, Motion], records: Records) -> None:
        self._motions, self._records = motions, records
        self._audited = AuditedRun(records)
        self._radial: dict[tuple[int, int], RadialPulls] = {}
        self._plans = PlannedRun(records)
        self._all_dead: dict[tuple[int, int], bool] = {}
        self._hidden: dict[tuple[int, int, int], HiddenBeside | None] = {}

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
        audited = audited_steps(self._audited, name, stage)
        return Laws(
            continuity=continuity_of(motion, stage),
            step=step_law_of(motion, stage, mixed),
            radial=radial_law_of(
                motion,
                stage,
                pulls=self._pulls(stage.start, stage.stop),
                peak=audited.peak,
                epsilon=audited.epsilon,
                eval_mode=audited.eval_mode,
            ),
            silence=quiet,
            stale=stale(motion, stage),
            mends=mend(motion, stage, mixed),
            scale_changes=tuple(
                change for change in self._scale_changes if stage.start <= change.step < stage.stop
            ),
            spike=spike_of(motion, stage),
            hidden_beside=self._hidden_beside(motion, stage),
            part_alive=since is not None and self._part_is_alive(motion, since, stage.stop),
            all_dead=since is not None and self._all_are_dead(since, stage.stop),
            audited=audited,
            plan=self._plan(name, stage),
            assumed=assumed_of(motion, stage),
            left_behind=self._event_about(motion, stage, EventKind.NOT_STEPPED, "why"),
            stepped_by=self._event_about(motion, stage, EventKind.SECOND_OPTIMIZER, "optimizer"),
        )

    def _pulls(self, start: int, stop: int) -> RadialPulls:
        if (start, stop) not in self._radial:
            self._radial[start, stop] = radial_pulls(self._motions.values(), start, stop)
        return self._radial[start, stop]

    def _hidden_beside(self, motion: Motion, stage: Stage) -> HiddenBeside | None:
        """What the certified groups of a plain group's optimizer hide in their gradients."""
        if motion.group.kind != "plain":
            return None
        number = self._optimizer(motion)
        key = stage.start, stage.stop, number
        if key not in self._hidden:
            certified = [
                other
                for other in self._motions.values()
                if other.group.kind == "scale" and self._optimizer(other) == number
            ]
            pulls = self._pulls(stage.start, stage.stop)
            self._hidden[key] = hidden_beside(certified, stage, pulls)
        return self._hidden[key]

    def _optimizer(self, motion: Motion) -> int:
        records = self._records
        main = records.main_slices[records.index(motion.group.name)]
        group = records.info.param_groups[records.info.slice_param_group[main]]
        return int(group.get("optimizer", 0))

    @functools.cached_property
    def _scale_changes(self) -> tuple[ScaleChange, ...]:
        return scale_changes(self._motions.values())

    def _plan(self, name: str, stage: Stage) -> Planned | None:
        """The plan beside the rates, where they differ in this stage."""
        plan = self._plans.of(name)
        if plan is None or plan.first is None or plan.last is None:
            return None
        if plan.first >= stage.stop or plan.last < stage.start:
            return None
        return None if self._plans.meant(plan) else plan

    @functools.cached_property
    def _by_tensor(self) -> Mapping[str, list[Motion]]:
        """The groups that hold a part of each tensor."""
        found: dict[str, list[Motion]] = {}
        for motion in self._motions.values():
            for tensor in motion.group.parameters:
                found.setdefault(tensor, []).append(motion)
        return found

    @functools.cached_property
    def _events(self) -> Mapping[tuple[str, str], list[int]]:
        """The places of the events about each tensor, by kind and tensor."""
        found: dict[tuple[str, str], list[int]] = {}
        for place, event in enumerate(self._records.events):
            if event["kind"] in (EventKind.NOT_STEPPED, EventKind.SECOND_OPTIMIZER):
                for tensor in event["parameters"]:
                    found.setdefault((event["kind"], tensor), []).append(place)
        return found

    def _part_is_alive(self, motion: Motion, start: int, stop: int) -> bool:
        """Whether another group of the same tensors has a gradient in these steps."""
        return any(
            bool((other.within(start, stop).gram.gg > 0).any())
            for tensor in motion.group.parameters
            for other in self._by_tensor[tensor]
            if other is not motion
        )

    def _all_are_dead(self, start: int, stop: int) -> bool:
        """Whether all gradients are 0 in the second half of these steps; None is not 0."""
        if (start, stop) not in self._all_dead:
            middle = (start + stop) // 2
            late = (motion.within(middle, stop) for motion in self._motions.values())
            self._all_dead[start, stop] = len(self._motions) > 1 and all(
                bool((here.gram.gg == 0).all()) for here in late if len(here)
            )
        return self._all_dead[start, stop]

    def _event_about(
        self, motion: Motion, stage: Stage, kind: EventKind, what: str
    ) -> tuple[int, str] | None:
        """The first event of a kind about these weights, in this stage or after the last step."""
        last = not len(motion) or motion.steps[-1] < stage.stop
        own = (self._events.get((kind, tensor), ()) for tensor in motion.group.parameters)
        for place in sorted(set().union(*own)):
            event = self._records.events[place]
            step = stage.start if event["step"] is None else int(event["step"])
            if stage.start <= step and (step < stage.stop or last):
                return step, str(event[what])
        return None
