"""What each law says of a group by its own records, its audit, its plan and the events about it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from spherical_motion.comparison.evidence import Laws
from spherical_motion.comparison.laws import (
    assumed_of,
    continuity_of,
    mend,
    radial_law_of,
    silence,
    spike_of,
    stale,
    step_law_of,
)
from spherical_motion.comparison.laws.audited import AuditedSteps, audited_steps
from spherical_motion.comparison.laws.audited_run import AuditedRun
from spherical_motion.comparison.laws.planned import Planned, PlannedRun
from spherical_motion.comparison.motion import Motion
from spherical_motion.records import Records
from spherical_motion.vocabulary import EventKind, Stage

Mixed = Sequence[tuple[float, float, float]]


class OwnLaws:
    """The laws that one group's records can answer.

    Args:
        records: the whole run; of its products nothing is read.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._audited_run = AuditedRun(records)
        self._audited: dict[tuple[object, ...], AuditedSteps] = {}
        self.plans = PlannedRun(records)

    def of(self, motion: Motion, stage: Stage, mixed: Mixed, block: Records) -> Laws:
        """What each law says of a group in a stage.

        Args:
            motion: the group's whole run.
            stage: the steps to look at.
            mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
            block: the part of the run that holds the group.
        """
        audited = self.audited(motion, stage, block)
        return Laws(
            continuity=continuity_of(motion, stage),
            step=step_law_of(motion, stage, mixed),
            radial=radial_law_of(
                motion,
                stage,
                peak=audited.peak,
                epsilon=audited.epsilon,
                eval_mode=audited.eval_mode,
            ),
            silence=silence(motion, stage),
            stale=stale(motion, stage),
            mends=mend(motion, stage, mixed),
            audited=audited,
            plan=self.plan(motion.group.name, stage, block),
            spike=spike_of(motion, stage),
            assumed=assumed_of(motion, stage),
            left_behind=self.left_behind(motion, stage),
            stepped_by=self.stepped_by(motion, stage),
        )

    def audited(self, motion: Motion, stage: Stage, block: Records) -> AuditedSteps:
        """What the audit says; groups of the same parameters and settings share it."""
        main = block.main_slices[block.index(motion.group.name)]
        ends = (int(motion.steps[0]), int(motion.steps[-1])) if len(motion) else ()
        info = block.info
        key = (
            motion.group.parameters, info.slices[main].parameter, info.slice_param_group[main],
            stage.start, stage.stop, ends,
        )  # fmt: skip
        if key not in self._audited:
            name = motion.group.name
            self._audited[key] = audited_steps(self._audited_run, name, stage, within=block)
        return self._audited[key]

    def plan(self, name: str, stage: Stage, block: Records | None = None) -> Planned | None:
        """The plan beside the rates, where they differ in this stage, whether meant so or not."""
        plan = self.plans.of(name, block)
        if plan is None or plan.first is None or plan.last is None:
            return None
        return None if plan.first >= stage.stop or plan.last < stage.start else plan

    def left_behind(self, motion: Motion, stage: Stage) -> tuple[int, str] | None:
        """Since when, and why, the optimizer does not step these weights any more."""
        return self._event_about(motion, stage, EventKind.NOT_STEPPED, "why")

    def stepped_by(self, motion: Motion, stage: Stage) -> tuple[int, str] | None:
        """Since when another optimizer steps them as well, and its class."""
        return self._event_about(motion, stage, EventKind.SECOND_OPTIMIZER, "optimizer")

    @functools.cached_property
    def _events(self) -> Mapping[tuple[str, str], list[int]]:
        """The places of the events about each tensor, by kind and tensor."""
        found: dict[tuple[str, str], list[int]] = {}
        for place, event in enumerate(self._records.events):
            if event["kind"] in (EventKind.NOT_STEPPED, EventKind.SECOND_OPTIMIZER):
                for tensor in event["parameters"]:
                    found.setdefault((event["kind"], tensor), []).append(place)
        return found

    def _event_about(
        self, motion: Motion, stage: Stage, kind: EventKind, what: str
    ) -> tuple[int, str] | None:
        """The first event of a kind about these weights, in this stage or after the last step."""
        if not self._events:
            return None
        last = not len(motion) or motion.steps[-1] < stage.stop
        own = (self._events.get((kind, tensor), ()) for tensor in motion.group.parameters)
        for place in sorted(set().union(*own)):
            event = self._records.events[place]
            step = stage.start if event["step"] is None else int(event["step"])
            if stage.start <= step and (step < stage.stop or last):
                return step, str(event[what])
        return None
