"""The evidence of a run, one group after another: slow and obvious, with all motions at hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from spherical_motion.comparison.balance import tug_of_war
from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.gathering import gather
from spherical_motion.comparison.laws import (
    HiddenBeside,
    RadialPulls,
    hidden_beside,
    radial_law_of,
    radial_pulls,
    scale_changes,
)
from spherical_motion.comparison.motion import Motion, motion_of
from spherical_motion.comparison.whole.own_laws import OwnLaws
from spherical_motion.records import Records
from spherical_motion.vocabulary import Stage


def evidence_one_by_one(records: Records, band: float = 0.1) -> list[tuple[int, Evidence]]:
    """(stage number, evidence), group by group."""
    own = OwnLaws(records)
    measured = np.flatnonzero(np.isfinite(records.lr).any(axis=0)).tolist()
    motions = {records.groups[i]: motion_of(records, i) for i in measured}
    changes = scale_changes(motions.values())
    found = []
    for name, motion in motions.items():
        for number, stage in enumerate(records.schedule(name).stages(), start=1):
            mixed = records.mixed.get(name, ())
            laws = own.of(motion, stage, mixed, records)
            pulls = radial_pulls(motions.values(), stage.start, stage.stop)
            since = laws.silence.dead_since
            laws = dataclasses.replace(
                laws,
                radial=radial_law_of(
                    motion,
                    stage,
                    pulls=pulls,
                    peak=laws.audited.peak,
                    epsilon=laws.audited.epsilon,
                    eval_mode=laws.audited.eval_mode,
                ),
                scale_changes=tuple(c for c in changes if stage.start <= c.step < stage.stop),
                hidden_beside=_hidden_beside(records, motions, name, stage, pulls),
                part_alive=since is not None and _part_is_alive(motions, name, since, stage),
                all_dead=since is not None and _all_are_dead(motions, since, stage),
                plan=None if laws.plan is None or own.plans.meant(laws.plan) else laws.plan,
            )
            tug = tug_of_war(motion, stage, mixed)
            found.append((number, gather(motion, stage, mixed, laws=laws, tug=tug, band=band)))
    return found


def _hidden_beside(
    records: Records, motions: dict[str, Motion], name: str, stage: Stage, pulls: RadialPulls
) -> HiddenBeside | None:
    if motions[name].group.kind != "plain":
        return None

    def optimizer(group: str) -> object:
        main = records.main_slices[records.index(group)]
        return records.info.param_groups[records.info.slice_param_group[main]].get("optimizer", 0)

    certified = [
        motion
        for other, motion in motions.items()
        if motion.group.kind == "scale" and optimizer(other) == optimizer(name)
    ]
    return hidden_beside(certified, stage, pulls)


def _part_is_alive(motions: dict[str, Motion], name: str, since: int, stage: Stage) -> bool:
    own = set(motions[name].group.parameters)
    others = [m for other, m in motions.items() if other != name and own & {*m.group.parameters}]
    return any((m.within(since, stage.stop).gram.gg > 0).any() for m in others)


def _all_are_dead(motions: dict[str, Motion], since: int, stage: Stage) -> bool:
    late = [m.within((since + stage.stop) // 2, stage.stop) for m in motions.values()]
    return len(motions) > 1 and all((m.gram.gg == 0).all() for m in late if len(m))


def differences(found: object, other: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Where two pieces of evidence differ: places, and by how much or what is there."""
    if dataclasses.is_dataclass(found) and type(found) is type(other):
        for field in dataclasses.fields(found):
            pair = (getattr(one, field.name) for one in (found, other))
            yield from differences(*pair, f"{path}.{field.name}")
    elif isinstance(found, float) and isinstance(other, float):
        if found != other and not (math.isnan(found) and math.isnan(other)):
            yield path, abs(found - other) / max(abs(other), 1e-300)
    elif type(found) is not type(other) or found != other:
        yield path, (found, other)
