"""The motions of many groups as arrays of (groups, steps): those that share steps and settings.

The laws are array functions of single steps, so that they cost the same for many groups of few
steps as for few groups of many. What differs between groups in more than its numbers, as a step
without a gradient or a NaN, stays with the motion of the single group, which is the reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion import sphere, theory
from spherical_motion.comparison.alike.sums import Array
from spherical_motion.comparison.laws.tested import rounding
from spherical_motion.comparison.memory import memory_of
from spherical_motion.comparison.motion import Motion, motion_of, why_no_theory
from spherical_motion.comparison.recorded_law import (
    balance_of,
    counted_steps,
    felt_decay,
    first_step_of,
    optimizer_name,
)
from spherical_motion.records import Records
from spherical_motion.records.written import WRITTEN, rescaled_steps, written_between
from spherical_motion.theory.balance_by_step import shared_moves
from spherical_motion.theory.motion import has_law_of_motion, law_of_motion_sides
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import Gram, HyperParameters, InvariantGroup
from spherical_motion.vocabulary.gram import PRODUCTS, is_unknown, unknown

Mask = NDArray[np.bool_]

TOGETHER = 65_536
"""Samples of all groups that are worked on at once: their arrays fit into a cache."""

OF_RUN = ("groups", "first", "hp")
"""Fields of `Alike` that belong to the run and not to its samples."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """Groups that were measured at the same steps with the same settings, all of them lawful.

    No step is without a gradient, and no number of a step is NaN or infinite. Arrays have shape
    (groups, steps); those of shape (steps,) are the same for all groups. Names as in `Motion`.

    Attributes:
        first: the motion of the first of them; its strings and settings are those of all.
        left, largest: what is left of it with the declared settings, and its largest term.
        noise, most: what rounding explains of it (`laws.tested`).
        residual: left over largest, where the first step's empty buffer counts as known.
    """

    groups: tuple[InvariantGroup, ...]
    first: Motion
    hp: HyperParameters
    steps: NDArray[np.int64]
    counted: NDArray[np.int64]
    lr: Array
    weight_decay: Array
    momentum: Array
    felt_decay: Array
    gram: Gram
    written: Array
    angle: Array
    norm: Array
    drive: Array
    cross: Array
    left: Array
    largest: Array
    noise: Array
    most: Array
    residual: Array
    turned: Array
    decay: Array
    loss: Array
    grown: Array
    change: Array
    growth_share: Array

    def __len__(self) -> int:
        return len(self.groups)

    def rows(self, index: slice) -> Alike:
        """Some of the steps."""
        cut = {}
        for field in dataclasses.fields(self):
            if field.name == "gram":
                cut["gram"] = self.gram[..., index]
            elif field.name not in OF_RUN:
                cut[field.name] = getattr(self, field.name)[..., index]
        return dataclasses.replace(self, **cut)

    def place(self, step: float) -> int:
        """How many samples come before a step."""
        return int(np.searchsorted(self.steps, step))

    def within(self, start: float, stop: float) -> Alike:
        """Samples of steps `start <= step < stop`."""
        return self.rows(slice(self.place(start), self.place(stop)))

    def alone(self, number: int) -> Motion:
        """The motion of one group, for the laws that look at it alone."""
        own = {
            field.name: getattr(self, field.name)[number]
            for field in dataclasses.fields(self)
            if field.name in PER_GROUP
        }
        return dataclasses.replace(
            self.first, group=self.groups[number], gram=self.gram[number], **own
        )

    @property
    def law_sum(self) -> Array:
        """`Motion.law`: what the balance law gives for `turned`."""
        law = self.loss + self.grown
        for part in (self.decay, self.change):
            measured = np.isfinite(part)
            if measured.all():
                law = law + part
            elif measured.any():
                count = measured.sum(axis=1, keepdims=True)
                mean = np.where(measured, part, 0.0).sum(axis=1, keepdims=True) / count
                law = law + np.where(measured, part, mean)
        return law


PER_GROUP = frozenset(
    ("written", "angle", "norm", "drive", "cross", "residual", "turned", "decay", "loss", "grown",
     "change", "growth_share")
)  # fmt: skip
"""Fields of `Motion` that `Alike` has for each group."""


def in_parts(
    records: Records, indices: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Alike | Motion]]:
    """The motions of some groups of a run: those that are alike together, the others alone."""
    most = max(TOGETHER // max(len(records.steps), 1), 1)
    waiting: list[int] = []
    for index in indices:
        if waiting and (len(waiting) == most or not _may_join(records, waiting[0], index)):
            yield from _together(records, waiting)
            waiting = []
        waiting.append(index)
    if waiting:
        yield from _together(records, waiting)


def _may_join(records: Records, one: int, other: int) -> bool:
    """Whether two groups have the same facts but for names and numbers."""
    info, groups = records.info, records.info.groups
    facts = []
    for index in (one, other):
        slice_ = records.main_slices[index]
        own = (info.slice_param_group[slice_], *(later[slice_] for later in info.regrouped))
        facts.append((own, groups[index].kind, groups[index].numel, info.dtype_of(index)))
    return facts[0] == facts[1]


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _together(
    records: Records, indices: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], Alike | Motion]]:
    """These groups: those that are alike as one, the others alone."""
    chosen = np.asarray(indices)
    alone = set(indices)
    products = _of_groups(records.gram, chosen)
    rows, good = _regular(records, products, chosen)
    while good.any():
        gram = products if good.all() and rows.all() else products[np.ix_(good, rows)]
        found = _alike(records, gram, rows, chosen[good])
        fine = _known_alike(found)
        if fine.all():
            together = tuple(chosen[good].tolist())
            yield together, found
            alone -= set(together)
            break
        # The first is what the others are compared with; where it is the odd one, it goes.
        kept = np.flatnonzero(good)
        good[kept[~fine] if fine[1:].any() or len(fine) == 1 else kept[:1]] = False
    for index in indices:
        if index in alone:
            yield (index,), motion_of(records, index)


def _of_groups(gram: Gram, chosen: NDArray[np.int64]) -> Gram:
    """The products of some groups, one row a group."""
    shape = (len(chosen), gram.shape[0])
    together = slice(int(chosen[0]), int(chosen[-1]) + 1)
    which = together if len(chosen) == together.stop - together.start else chosen

    def own(values: Array) -> Array:
        if is_unknown(values):
            return unknown(shape)
        return np.ascontiguousarray(values[:, which].T)

    return Gram(*(own(getattr(gram, name)) for name in PRODUCTS))


def _regular(records: Records, gram: Gram, chosen: NDArray[np.int64]) -> tuple[Mask, Mask]:
    """(the steps, which groups were finite, moved and had a gradient at all of them).

    They have one setting at each step, which is a lawful one.
    """
    groups = [records.info.groups[i] for i in chosen]
    rates = np.ascontiguousarray(records.lr[:, chosen].T)
    kept = np.isfinite(rates)
    good = np.array([group.name not in records.mixed for group in groups]) & kept.any(axis=1)
    if not good.any():
        return np.zeros(rates.shape[1], bool), good
    rows = kept[int(np.argmax(good))]
    good &= (kept == rows).all(axis=1)
    for name in PRODUCTS:
        values = getattr(gram, name)
        if not is_unknown(values):
            values = values if rows.all() else values[:, rows]
            good &= np.isfinite(values).all(axis=1)
            if name in ("ww", "dd", "gg"):
                good &= values.min(axis=1) > 0
    model = int(np.argmax(good))
    for values in (rates, records.weight_decay[:, chosen].T, records.momentum[:, chosen].T):
        own = values if rows.all() else values[:, rows]
        good &= (own == own[model]).all(axis=1) & bool((own[model] >= 0).all())
    good &= bool((own[model] < 1).all())
    first_steps = [first_step_of(records, group) for group in groups]
    good &= np.array([step == first_steps[model] for step in first_steps])
    good &= np.array([memory_of(records, group.name) is None for group in groups])
    return rows, good


def _alike(records: Records, gram: Gram, rows: Mask, chosen: NDArray[np.int64]) -> Alike:
    """Groups whose numbers are lawful and whose settings are the same."""
    first_step = first_step_of(records, records.info.groups[chosen[0]])
    first = _frame(records, int(chosen[0]), rows, gram, first_step)
    hp, shape, nothing = first.hp, gram.shape, np.broadcast_to(np.nan, gram.shape)
    left = largest = residual = drive = cross = nothing
    if first.no_theory is None:
        family = theory.family_of(hp)
        damped = theory.damped_lr(hp, first.lr, first.momentum)
        s = Steps(damped, first.weight_decay, first.momentum, hp.beta2)
        drive = np.broadcast_to(family.measured_drive(gram, s, first.group.numel), shape)
        cross = np.broadcast_to(family.measured_overlap(gram, s), shape)
    if has_law_of_motion(hp):
        left, largest = _law_of_motion(hp, gram, first)
        if first.no_theory is None:
            residual = _residual(first, left, largest, gram, first_step)
    noise, most = rounding(first, gram)
    sides = _sides(first, gram, first_step)
    return Alike(
        groups=tuple(records.info.groups[i] for i in chosen),
        first=first,
        hp=hp,
        steps=first.steps,
        counted=first.counted,
        lr=first.lr,
        weight_decay=first.weight_decay,
        momentum=first.momentum,
        felt_decay=first.felt_decay,
        gram=gram,
        written=written_between(records, gram, first.steps),
        angle=sphere.angle(gram),
        norm=sphere.norm(gram),
        drive=drive,
        cross=cross,
        left=left,
        largest=largest,
        noise=noise,
        most=most,
        residual=residual,
        turned=sides.turned,
        decay=sides.decay,
        loss=sides.loss,
        grown=sides.growth,
        change=sides.change,
        growth_share=sides.growth_share,
    )


def _frame(records: Records, index: int, rows: Mask, gram: Gram, first_step: int | None) -> Motion:
    """The motion of one of them without its numbers: settings, and what its words say."""
    group, main_slice = records.info.groups[index], records.main_slices[index]
    hp, steps = records.info.hyperparameters(main_slice), records.steps[rows]
    lr, weight_decay, momentum = (
        np.ascontiguousarray(values[rows, index])
        for values in (records.lr, records.weight_decay, records.momentum)
    )
    idle = np.zeros(steps.shape, bool)
    counted = counted_steps(records, steps, idle)
    felt = felt_decay(records, index, rows, hp, lr, weight_decay)
    one = slice(int(momentum.argmax()), int(momentum.argmax()) + 1)
    _, no_balance = balance_of(
        records, main_slice, hp, gram[0, one], counted[one],
        Steps(lr[one], felt[one], momentum[one]), ~idle[one], None, first_step,
    )  # fmt: skip
    nothing = np.broadcast_to(np.nan, steps.shape)
    numbers = dict.fromkeys(PER_GROUP, nothing)
    return Motion(
        group=group,
        hp=hp,
        optimizer=optimizer_name(records, main_slice),
        steps=steps,
        counted=counted,
        idle=idle,
        dtype=records.info.dtype_of(index),
        gram=gram[0],
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        felt_decay=felt,
        non_finite=np.empty(0, np.int64),
        rescaled=rescaled_steps(records),
        illegal=idle,
        no_theory=why_no_theory(records, group, main_slice, hp, None),
        no_balance=no_balance,
        memory=None,
        **numbers,
    )


def _known_alike(found: Alike) -> Mask:
    """Which groups know of each step what the first one knows, and were not written."""
    parts = (found.written, found.drive, found.cross, found.residual, found.turned, found.decay,
             found.loss, found.grown, found.change, found.angle, found.noise)  # fmt: skip
    fine = np.all(~(np.abs(found.written) > WRITTEN), axis=1)
    for values in parts:
        if any(values.strides[:-1]):
            known = np.isfinite(values)
            fine &= (known == known[:1]).all(axis=1)
    return fine


def steps_first(gram: Gram) -> Gram:
    """The same products with the steps first, in the same memory."""
    return Gram(*(getattr(gram, name).T for name in PRODUCTS))


def _law_of_motion(hp: HyperParameters, gram: Gram, first: Motion) -> tuple[Array, Array]:
    """`theory.motion.law_of_motion_sides` with the declared settings and no first step."""
    decay = first.weight_decay if hp.decoupled else first.felt_decay
    left, largest = law_of_motion_sides(
        hp,
        steps_first(gram),
        steps=first.counted,
        lr=first.lr[:, None],
        weight_decay=decay[:, None],
        momentum=first.momentum[:, None],
    )
    return np.ascontiguousarray(left.T), np.ascontiguousarray(largest.T)


def _residual(
    first: Motion, left: Array, largest: Array, gram: Gram, first_step: int | None
) -> Array:
    """`Motion.residual`: that of the sides, but for the step that found the buffer empty."""
    residual = np.abs(left) / largest
    for place in np.flatnonzero(first.counted == first_step).tolist():
        one = slice(place, place + 1)
        residual[:, one] = theory.law_of_motion_residual(
            first.hp,
            steps_first(gram[:, one]),
            steps=first.counted[one],
            lr=first.lr[one, None],
            weight_decay=first.weight_decay[one, None],
            momentum=first.momentum[one, None],
            first_step=first_step,
        ).T
    return residual


def _sides(first: Motion, gram: Gram, first_step: int | None) -> theory.BalanceSteps:
    """The balance law at each step, arrays (groups, steps)."""
    shape = gram.shape
    if first.no_balance is not None:
        return theory.BalanceSteps(*[np.broadcast_to(np.nan, shape)] * 6)
    s = Steps(first.lr, first.felt_decay, first.momentum, first.hp.beta2)
    law, moves = shared_moves(
        first.hp, steps_first(gram), first.counted, s, first_step, theory.GroupFacts()
    )
    sides = law.weigh(moves)
    parts = (getattr(sides, field.name) for field in dataclasses.fields(sides))
    return theory.BalanceSteps(*(_groups_first(part, shape) for part in parts))


def _groups_first(part: Array, shape: tuple[int, ...]) -> Array:
    """An array (steps, groups) or (steps, 1) turned around; one for all stays without memory."""
    if part.shape[1] == 1:
        return np.broadcast_to(part[:, 0], shape)
    return np.ascontiguousarray(part.T)
