"""What each law says of many groups by their own records: at once where it finds nothing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from spherical_motion import theory
from spherical_motion.comparison.alike.laws import (
    continuities,
    radial_laws,
    silences,
    spiking,
    stales,
    step_laws,
)
from spherical_motion.comparison.alike.motions import Alike
from spherical_motion.comparison.evidence import Laws
from spherical_motion.comparison.laws import (
    Assumed,
    Mend,
    RadialLaw,
    assumed_of,
    continuity_of,
    mend,
    spike_of,
    stale,
    step_law_of,
)
from spherical_motion.comparison.laws.audited import AuditedSteps
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.whole.own_laws import OwnLaws
from spherical_motion.records import Records
from spherical_motion.theory.motion import has_law_of_motion
from spherical_motion.vocabulary import Stage

Law = TypeVar("Law")


def laws_of(own: OwnLaws, found: Alike, stage: Stage, block: Records) -> list[Laws]:
    """`OwnLaws.of` each group."""
    alone = functools.cache(found.alone)
    plan = own.plan(found.groups[0].name, stage, block)
    own.plans.alike(group.name for group in found.groups)
    columns = zip(
        filled(continuities(found, stage), lambda i: continuity_of(alone(i), stage)),
        filled(step_laws(found, stage), lambda i: step_law_of(alone(i), stage)),
        radial_laws(found, stage),
        silences(found, stage),
        filled(stales(found, stage), lambda i: stale(alone(i), stage)),
        _mends(found, stage, alone),
        _assumed(found, stage, alone),
        (spike_of(alone(i), stage) if may else None for i, may in enumerate(spiking(found, stage))),
        strict=True,
    )
    laws: list[Laws] = []
    frame = found.first
    for group, parts in zip(found.groups, columns, strict=True):
        continuity, step, radial, quiet, same, mends, assumed, spike = parts
        motion = frame if group is frame.group else dataclasses.replace(frame, group=group)
        audited = own.audited(motion, stage, block)
        laws.append(
            Laws(
                continuity=continuity,
                step=step,
                radial=_with_audit(radial, audited),
                silence=quiet,
                stale=same,
                mends=mends,
                audited=audited,
                plan=plan,
                spike=spike,
                assumed=assumed,
                left_behind=own.left_behind(motion, stage),
                stepped_by=own.stepped_by(motion, stage),
            )
        )
    return laws


def filled(found: Sequence[Law | None], alone: Callable[[int], Law]) -> list[Law]:
    """What was found, and of the others what is found of each alone."""
    return [alone(i) if law is None else law for i, law in enumerate(found)]


def _mends(found: Alike, stage: Stage, alone: Callable[[int], Motion]) -> list[tuple[Mend, ...]]:
    if has_law_of_motion(found.hp) or found.first.no_balance:
        return [()] * len(found)
    return [mend(alone(i), stage) for i in range(len(found))]


def _assumed(found: Alike, stage: Stage, alone: Callable[[int], Motion]) -> list[Assumed]:
    """Without bursts only the sizes of entries differ between groups."""
    entries = found.first.no_theory is None and theory.family_of(found.hp).takes_entries_alike
    if entries:
        return [assumed_of(alone(i), stage) for i in range(len(found))]
    return [assumed_of(alone(0), stage)] * len(found)


def _with_audit(law: RadialLaw, audited: AuditedSteps) -> RadialLaw:
    numbers = {"peak": audited.peak, "epsilon": audited.epsilon, "eval_mode": audited.eval_mode}
    if all(number != number for number in numbers.values()):
        return law
    return dataclasses.replace(law, **numbers)
