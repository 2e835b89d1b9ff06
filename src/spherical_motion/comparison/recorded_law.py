"""The balance law of a group's recorded steps, why there is none, and what else happened to it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.memory import UpdateMemory
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.records import Records
from spherical_motion.theory.late_pull import counted_by_moves
from spherical_motion.theory.rounding import real_decay
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import EventKind, Gram, HyperParameters, InvariantGroup

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def felt_decay(
    records: Records, index: int, kept: NDArray[np.bool_], hp: HyperParameters, lr: Array,
    weight_decay: Array,
) -> Array:  # fmt: skip
    """The weight decay that acts on a group at the samples kept, as the arithmetic rounds it.

    Where it differs between slices, the mean over them with weights |w|².
    """
    dtype = records.info.dtype_of(index) or ""
    if records.info.groups[index].name not in records.mixed:
        return real_decay(hp, lr, weight_decay, dtype)
    members, steps = records.info.members[index], records.steps
    each = [records.settings.at_each_step("weight_decay", member, steps) for member in members]
    first = steps[0]
    decay = np.stack([values[steps - first] for values in each], axis=1)[kept]
    decay = real_decay(hp, lr[:, None], decay, dtype)
    squares = records.slice_gram.ww[:, members][kept]
    mean = (decay * squares).sum(axis=1) / squares.sum(axis=1)
    return np.where(np.isfinite(mean), mean, weight_decay)


def balance_of(
    records: Records, main_slice: int, hp: HyperParameters, gram: Gram, counted: NDArray[np.int64],
    s: Steps, legal: Mask, memory: UpdateMemory | None, first_step: int | None,
) -> tuple[theory.BalanceSteps, str | None]:  # fmt: skip
    """The balance law at each sample, and why it is not known."""
    whole = [np.full(counted.shape, np.nan) for _ in dataclasses.fields(theory.BalanceSteps)]
    unknown = changed_settings(records, main_slice)
    if unknown is None and legal.any():
        try:
            sides = theory.balance_steps(
                hp,
                gram[legal],
                steps=counted[legal],
                lr=s.lr[legal],
                weight_decay=np.asarray(s.weight_decay)[legal],
                momentum=s.momentum[legal],
                first_step=first_step,
                correlation=None if memory is None else memory.correlation,
            )
        except (NoTheory, InvalidArgument) as reason:  # or a fact that no record holds
            name = optimizer_name(records, main_slice)
            unknown = f"no balance law is known for {name}"
            if _has_law(hp):
                unknown = f"{name}: {reason}"
        else:
            parts = (getattr(sides, field.name) for field in dataclasses.fields(sides))
            for array, part in zip(whole, parts, strict=True):
                array[legal] = part
    return theory.BalanceSteps(*whole), unknown


def first_step_of(records: Records, group: InvariantGroup) -> int | None:
    """The step that found the optimizer's averages of a group empty; None if none is known to.

    Recording begins at step 0. Where an event says that the optimizer had stepped the group
    before, or went on with it elsewhere, this is not the first.
    """
    for event in records.events:
        began = event["kind"] == EventKind.HAD_STATE and event["step"] == 0
        if began and not set(group.parameters).isdisjoint(event["parameters"]):
            return None
    return 0


def counted_steps(records: Records, steps: NDArray[np.int64], idle: Mask) -> NDArray[np.int64]:
    """Step numbers by which the law tells neighbours: no idle steps, and a gap at each resume.

    Where a run was resumed, the optimizer's averages may not have come along.
    """
    resumed = [e["step"] for e in records.events if e["kind"] == EventKind.RESUMED]
    starts = np.sort([step for step in resumed if step is not None]).astype(np.int64)
    return counted_by_moves(steps, idle) + np.searchsorted(starts, steps, side="right")


def _has_law(hp: HyperParameters) -> bool:
    try:
        theory.law_of(hp)
    except NoTheory:
        return False
    return True


def optimizer_name(records: Records, main_slice: int) -> str:
    """The name under which words speak of a slice's optimizer."""
    settings = records.info.param_groups[records.info.slice_param_group[main_slice]]
    return settings["class"] + (" with amsgrad=True" if settings.get("amsgrad") else "")


def changed_settings(records: Records, main_slice: int) -> str | None:
    """Settings that no schedule holds were changed: which, and when."""
    number = records.info.slice_param_group[main_slice]
    for event in records.events:
        ours = event["kind"] == EventKind.SETTINGS_CHANGED
        if ours and records.info.param_group_of(event) == number:
            changed = ", ".join(f"{k}={v}" for k, v in event["changed"].items())
            return f"settings outside the schedule were changed at step {event['step']}: {changed}"
    return None
