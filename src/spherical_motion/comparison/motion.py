"""One group's recorded motion as plain arrays, with the quantities that the theory needs."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion import sphere, theory
from spherical_motion.comparison.memory import UpdateMemory, memory_of
from spherical_motion.comparison.recorded_law import (
    balance_of,
    changed_settings,
    counted_steps,
    felt_decay,
    first_step_of,
    optimizer_name,
)
from spherical_motion.errors import NoTheory
from spherical_motion.records import Records
from spherical_motion.records.written import rescaled_steps, written_between
from spherical_motion.theory.driven import norms_under, step_ratios_under
from spherical_motion.theory.late_pull import idle
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import Gram, HyperParameters, InvariantGroup

Array = NDArray[np.float64]

RESIDUAL_LIMIT = 0.01
"""Median residual of the law of motion above which the steps are not the optimizer's alone."""

RARELY = 0.05
"""Up to this share of the steps a gradient that is NaN was one; more often it is not there."""

WHOLE_RUN = (
    "group", "hp", "optimizer", "dtype", "non_finite", "rescaled", "no_theory", "no_balance",
    "memory",
)  # fmt: skip
"""Fields of `Motion` that belong to the run and not to its samples."""


@dataclasses.dataclass(frozen=True, slots=True)
class Motion:
    """The finite samples of one group in step order; every array has shape (samples,).

    Attributes:
        hp: the optimizer and its fixed settings; lr, weight decay and momentum vary below.
        optimizer: the name of its class.
        idle: whether the group had no gradient and the optimizer skipped it.
        written: relative change of the norm since the end of the step before, where that is on
            record; 0 up to rounding unless something beside the optimizer wrote the weights.
        angle: measured angles, rad.
        norm: measured norms before the step.
        drive: what pushes the norm out at each sample, as `theory.driven_norm` takes it: h̃ for SGD,
            |g̃|² for Nesterov, numel for AdamW and Lion, the RMS of g̃'s entries for Adam with L2,
            |u|² for Muon and other decoupled ones; NaN without theory or gradient.
        cross: |w|²<v_{t-1}, g> of each sample for Nesterov, else NaN.
        residual: residual of the law of motion, NaN where the step before was not sampled.
        non_finite: steps at which weights or gradient were NaN or infinite, shape (any,).
        rescaled: steps at which a steering tool says that it rescaled weights, shape (any,).
        counted: step numbers by which neighbours are told: without idle steps, and with a gap where
            the run was resumed.
        dtype: of the weights; None if it was not recorded.
        felt_decay: weight decay as the balance law has it: as the arithmetic of the weights rounds
            it, and where it differs between the group's slices, the mean with weights |w|².
        turned, decay, loss, grown, change: the balance law at each sample, `theory.balance_steps`;
            NaN where the step before was not sampled, or a part is not known.
        growth_share: the weight of the change of |w|² in `grown`.
        illegal: for each sample, whether no theory covers its settings.
        no_theory: why nothing can be predicted, or None.
        no_balance: why the balance law says nothing, or None.
        memory: how strongly the updates remember each other, if bursts measured it.
    """

    group: InvariantGroup
    hp: HyperParameters
    optimizer: str
    steps: NDArray[np.int64]
    counted: NDArray[np.int64]
    idle: NDArray[np.bool_]
    written: Array
    dtype: str | None
    gram: Gram
    angle: Array
    norm: Array
    drive: Array
    cross: Array
    lr: Array
    weight_decay: Array
    momentum: Array
    residual: Array
    felt_decay: Array
    turned: Array
    decay: Array
    loss: Array
    grown: Array
    change: Array
    growth_share: Array
    non_finite: NDArray[np.int64]
    rescaled: NDArray[np.int64]
    illegal: NDArray[np.bool_]
    no_theory: str | None
    no_balance: str | None
    memory: UpdateMemory | None

    def __len__(self) -> int:
        return self.steps.size

    def __getitem__(self, index: slice | NDArray[np.bool_]) -> Motion:
        cut = {
            f.name: getattr(self, f.name)[index]
            for f in dataclasses.fields(self)
            if f.name not in WHOLE_RUN
        }
        return dataclasses.replace(self, **cut)

    def within(self, start: float, stop: float) -> Motion:
        """Samples of steps `start <= step < stop`."""
        first, last = np.searchsorted(self.steps, [start, stop])
        return self[int(first) : int(last)]

    def driven_norm(self, facts: theory.GroupFacts) -> Array:
        """Predicted norm at each sample: the linear law from the first sample's norm onward.

        Driven by the measured drive, each sample standing for the steps up to the next one.
        """
        known = np.isfinite(self.drive)
        drive = np.interp(self.steps, self.steps[known], self.drive[known])
        s = Steps(self.lr[:-1], self.weight_decay[:-1], self.momentum[:-1])
        return norms_under(self.hp, self.norm[0], s, drive[:-1], np.diff(self.steps), facts)

    def driven_step_ratio_sq(self, norm: Array, facts: theory.GroupFacts) -> Array:
        """Predicted |d|²/|w|² at each sample, given the predicted norm."""
        s = Steps(self.lr, self.weight_decay, self.momentum)
        return step_ratios_under(self.hp, norm, s, self.drive, facts)

    @property
    def law(self) -> Array:
        """What the balance law gives for `turned`, without a part that was not measured.

        A part that was measured at some steps has its mean at the others.
        """
        law = self.loss + self.grown
        for part in (self.decay, self.change):
            measured = np.isfinite(part)
            if measured.any():
                law = law + np.where(measured, part, part[measured].mean())
        return law

    @property
    def prediction_error(self) -> float:
        """Relative error of what is predicted, where it is approximate; 0 elsewhere."""
        needed = self.no_theory is None and "correlation" in theory.family_of(self.hp).needs
        return self.memory.error if needed and self.memory is not None else 0.0

    @property
    def correlation(self) -> float | None:
        """c of the group's updates, if bursts measured it."""
        return None if self.memory is None else self.memory.correlation

    @property
    def driven(self) -> int:
        """At how many samples the drive is known."""
        return int(np.isfinite(self.drive).sum())

    @property
    def facts(self) -> theory.GroupFacts:
        """The facts of the group that the formulas need beside settings and drive.

        The overlap comes from the steps, so it is valid only if they obey the law of motion.
        """
        facts = theory.GroupFacts(numel=self.group.numel, correlation=self.correlation)
        known = np.isfinite(self.drive)
        if not known.any():
            return facts
        mean, family = float(self.drive[known].mean()), theory.family_of(self.hp)
        if family.drive in family.needs:
            facts = dataclasses.replace(facts, **{family.drive: mean})
        known &= np.isfinite(self.cross)
        if mean > 0 and known.any():
            linked = self.residual[np.isfinite(self.residual)]
            if linked.size and np.median(linked) <= RESIDUAL_LIMIT:
                overlap = float(self.cross[known].mean() / self.drive[known].mean())
                facts = dataclasses.replace(facts, overlap=overlap)
        return facts

    @property
    def predictable(self) -> bool:
        """Whether there is a theory and enough data to drive it."""
        lawful = self.no_theory is None and not self.illegal.any()
        return lawful and len(self) > 1 and self.driven > 0


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def motion_of(records: Records, index: int) -> Motion:
    """The motion of group number `index`, without the steps at which it was not measured."""
    group = records.info.groups[index]
    gram, lr = records.gram[:, index], records.lr[:, index]
    measured = np.isfinite(lr)
    finite = np.isfinite(gram.ww) & np.isfinite(gram.wd) & np.isfinite(gram.dd)
    non_finite = records.steps[measured & (~finite | np.isinf(gram.gg) | _not_a_number(gram))]
    kept = measured & finite & (gram.ww > 0)  # weights of norm zero have no direction
    gram, steps, lr = gram[kept], records.steps[kept], lr[kept]
    weight_decay, momentum = (a[kept, index] for a in (records.weight_decay, records.momentum))
    skipped = idle(gram)
    counted = counted_steps(records, steps, skipped)
    legal = (lr >= 0) & (weight_decay >= 0) & (momentum >= 0) & (momentum < 1)
    main_slice = records.main_slices[index]
    hp = records.info.hyperparameters(main_slice)
    memory = memory_of(records, group.name)
    first_step = first_step_of(records, group)
    no_theory = why_no_theory(records, group, main_slice, hp, memory)
    drive, cross, residual = (np.full(steps.shape, np.nan) for _ in range(3))
    moved = legal & ~skipped
    if no_theory is None and moved.any():
        family, lrs, momenta = theory.family_of(hp), lr[moved], momentum[moved]
        s = Steps(theory.damped_lr(hp, lrs, momenta), weight_decay[moved], momenta, hp.beta2)
        drive[moved] = family.measured_drive(gram[moved], s, group.numel)
        cross[moved] = family.measured_overlap(gram[moved], s)
        if family.has_law_of_motion:
            residual[moved] = theory.law_of_motion_residual(
                hp,
                gram[moved],
                steps=counted[moved],
                lr=lrs,
                weight_decay=s.weight_decay,
                momentum=momenta,
                first_step=first_step,
            )
    felt = felt_decay(records, index, kept, hp, lr, weight_decay)
    sides, no_balance = balance_of(
        records, main_slice, hp, gram, counted, Steps(lr, felt, momentum), moved, memory, first_step
    )
    return Motion(
        group=group,
        hp=hp,
        optimizer=optimizer_name(records, main_slice),
        steps=steps,
        counted=counted,
        idle=skipped,
        written=written_between(records, gram, steps),
        dtype=records.info.dtype_of(index),
        gram=gram,
        angle=sphere.angle(gram),
        norm=sphere.norm(gram),
        drive=drive,
        cross=cross,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        residual=residual,
        felt_decay=felt,
        turned=sides.turned,
        decay=sides.decay,
        loss=sides.loss,
        grown=sides.growth,
        change=sides.change,
        growth_share=sides.growth_share,
        non_finite=non_finite,
        rescaled=rescaled_steps(records),
        illegal=~legal,
        no_theory=no_theory,
        no_balance=no_balance,
        memory=memory,
    )


def _not_a_number(gram: Gram) -> NDArray[np.bool_]:
    """Steps that were made with a gradient of NaN, which an optimizer of signs survives.

    A gradient that is missing (None) is NaN, too, and no harm. It comes with steps that do not
    move, or again and again.
    """
    moved = gram.dd > 0
    found = np.isnan(gram.gg) & moved
    return found if found.sum() <= RARELY * moved.sum() else np.zeros_like(found)


def why_no_theory(
    records: Records,
    group: InvariantGroup,
    main_slice: int,
    hp: HyperParameters,
    memory: UpdateMemory | None,
) -> str | None:
    """Why nothing can be predicted of a group; None if it can."""
    if group.kind == "rescale":
        return "its members scale by different powers of a number; the theory covers equal powers"
    name = optimizer_name(records, main_slice)
    try:
        family = theory.family_of(hp)
    except NoTheory as reason:
        return f"{name}: {reason}"
    if family.unrecorded and memory is None:
        return f"{name}: no prediction from records alone. {family.unrecorded}"
    return changed_settings(records, main_slice)
