"""The evidence of a whole run, a block of groups after another, of which only evidence is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from spherical_motion.comparison.alike import Alike, in_parts
from spherical_motion.comparison.alike.balance import tugs_of_war
from spherical_motion.comparison.alike.gathering import gathered
from spherical_motion.comparison.alike.own_laws import filled, laws_of
from spherical_motion.comparison.balance import tug_of_war
from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.gathering import gather
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.whole.own_laws import OwnLaws
from spherical_motion.comparison.whole.whole_run import WholeRun
from spherical_motion.records import Records
from spherical_motion.vocabulary import Stage


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RunEvidence:
    """The evidence of a run.

    Attributes:
        stages: of each group of which anything was recorded, by name in the order of the run.
        evidence: (stage number, evidence), group by group.
    """

    stages: dict[str, tuple[Stage, ...]]
    evidence: tuple[tuple[int, Evidence], ...]


BLOCK = 512 << 20
"""Bytes that the products of a block may take."""


def evidence_of(records: Records, band: float, limit: int = BLOCK) -> RunEvidence:
    """Go through a run block by block and gather its evidence.

    Args:
        records: the run.
        band: the ratio of the angle must lie within 1 ± this.
        limit: bytes that the products of a block may take.
    """
    own = OwnLaws(records)
    run = WholeRun(records, own.plans)
    told = StagesOfRun()
    found: dict[str, list[Evidence]] = {}
    stages: dict[str, tuple[Stage, ...]] = {}
    for block, indices, part in _parts(records, limit):
        here = told.of(block, indices[0])
        groups = part.groups if isinstance(part, Alike) else (part.group,)
        run.add(part, _optimizer(block, indices[0]))
        for group in groups:
            stages[group.name], found[group.name] = here, []
        for stage in here:
            gained = _gathered(own, part, stage, block, band)
            run.note(stage, groups, (evidence.laws for evidence in gained))
            for group, evidence in zip(groups, gained, strict=True):
                found[group.name].append(evidence)
        run.note_others(part)
    if run.needs_another_look:
        for _, _, part in _parts(records, limit):
            run.look_again(part)
    names = [name for name in records.groups if name in stages]
    return RunEvidence(
        {name: stages[name] for name in names},
        tuple(
            (number, run.completed(evidence))
            for name in names
            for number, evidence in enumerate(found[name], start=1)
        ),
    )


def _parts(
    records: Records, limit: int
) -> Iterator[tuple[Records, tuple[int, ...], Alike | Motion]]:
    """(block of the run, numbers of groups in it, their motions) of all groups with records."""
    for block in records.blocks(limit):
        measured = np.flatnonzero(np.isfinite(block.lr).any(axis=0)).tolist()
        for indices, part in in_parts(block, measured):
            yield block, indices, part


def _optimizer(block: Records, index: int) -> int:
    """The number of the optimizer that steps a group."""
    param_group = block.info.slice_param_group[block.main_slices[index]]
    return int(block.info.param_groups[param_group].get("optimizer", 0))


def _gathered(
    own: OwnLaws, part: Alike | Motion, stage: Stage, block: Records, band: float
) -> Sequence[Evidence]:
    """The evidence of some groups in one stage."""
    if isinstance(part, Motion):
        mixed = block.mixed.get(part.group.name, ())
        tug, laws = tug_of_war(part, stage, mixed), own.of(part, stage, mixed, block)
        return [gather(part, stage, mixed, laws=laws, tug=tug, band=band)]
    laws = laws_of(own, part, stage, block)
    tugs = filled(tugs_of_war(part, stage), lambda i: tug_of_war(part.alone(i), stage))
    return filled(
        gathered(part, stage, laws, tugs, band),
        lambda i: gather(part.alone(i), stage, laws=laws[i], tug=tugs[i], band=band),
    )


class StagesOfRun:
    """The stages of groups; those of one param group and the same steps share them."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[Stage, ...]] = {}

    def of(self, block: Records, index: int) -> tuple[Stage, ...]:
        """The stages of a group, by its number in a part of the run."""
        name = block.groups[index]
        if block.changes is None:  # the settings of schema 1 stand in each row
            return block.schedule(name).stages()
        slice_ = block.main_slices[index]
        param_groups = (block.info.slice_param_group, *block.info.regrouped)
        known = np.flatnonzero(np.isfinite(block.lr[:, index]))
        key = (*(own[slice_] for own in param_groups), int(known[0]), int(known[-1]))
        if key not in self._found:
            self._found[key] = block.schedule(name).stages()
        return self._found[key]
