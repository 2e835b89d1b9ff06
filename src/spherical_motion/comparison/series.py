"""One group's recorded motion as plain arrays, with what the theory needs beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.records import Records
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.groups import InvariantGroup
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule import Stage

__all__ = ["Series", "series_of"]

Array = NDArray[np.float64]

MOMENTUM_MEMORIES = 3
"""After a change of settings the momentum buffer needs this many times 1/(1 - α) steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Series:
    """The finite samples of one group in step order; every array has shape (samples,).

    Attributes:
        group: which group.
        hp: its optimizer and fixed settings; lr, weight decay and momentum vary below.
        steps: step numbers.
        gram: the six inner products.
        angle: measured angles, rad.
        norm: measured norms before the step.
        drive: h̃ of each sample for SGD, numel for AdamW; NaN without theory or gradient.
        lr, weight_decay, momentum: settings at each sample.
        residual: residual of the law of motion, NaN where the step before was not sampled.
        non_finite: steps at which weights or gradient were NaN or infinite, shape (any,).
        no_theory: why nothing can be predicted, or None.
    """

    group: InvariantGroup
    hp: HyperParameters
    steps: NDArray[np.int64]
    gram: Gram
    angle: Array
    norm: Array
    drive: Array
    lr: Array
    weight_decay: Array
    momentum: Array
    residual: Array
    non_finite: NDArray[np.int64]
    no_theory: str | None

    def __len__(self) -> int:
        return self.steps.size

    def __getitem__(self, index: slice | NDArray[np.bool_]) -> Series:
        cut = {
            f.name: getattr(self, f.name)[index]
            for f in dataclasses.fields(self)
            if f.name not in ("group", "hp", "non_finite", "no_theory")
        }
        return dataclasses.replace(self, **cut)

    def within(self, start: float, stop: float) -> Series:
        """Samples of steps `start <= step < stop`."""
        first, last = np.searchsorted(self.steps, [start, stop])
        return self[int(first) : int(last)]

    def driven_norm(self) -> Array:
        """Predicted norm at each sample: the linear law from the first sample's norm onward.

        Driven by the measured drive, each sample standing for the steps up to the next one.
        """
        known = np.isfinite(self.drive)
        drive = np.interp(self.steps, self.steps[known], self.drive[known])
        norms = theory.driven_norm(
            self.hp,
            self.norm[0],
            lr=self.lr[:-1],
            weight_decay=self.weight_decay[:-1],
            momentum=self.momentum[:-1],
            drive=drive[:-1],
            span=np.diff(self.steps),
        )
        return norms

    def driven_step_ratio_sq(self, norm: Array) -> Array:
        """Predicted |d|²/|w|² at each sample, given the predicted norm."""
        return theory.driven_step_ratio_sq(
            self.hp, norm, lr=self.lr, momentum=self.momentum, drive=self.drive
        )

    @property
    def predictable(self) -> bool:
        """Whether there is a theory and enough data to drive it."""
        return self.no_theory is None and len(self) > 1 and bool(np.isfinite(self.drive).any())


def series_of(records: Records, index: int) -> Series:
    """The series of group number `index`, without the steps at which it was not measured."""
    group = records.info.groups[index]
    gram, lr = records.gram[:, index], records.lr[:, index]
    measured = np.isfinite(lr)
    moved = np.isfinite(gram.ww) & np.isfinite(gram.wd) & np.isfinite(gram.dd)
    kept = measured & moved
    # A gradient that is missing (None) is NaN and no harm; an infinite one is.
    non_finite = records.steps[measured & (~moved | np.isinf(gram.gg))]
    gram, steps, lr = gram[kept], records.steps[kept], lr[kept]
    weight_decay, momentum = (a[kept, index] for a in (records.weight_decay, records.momentum))
    hp, drive, residual = _other(), np.full(steps.shape, np.nan), np.full(steps.shape, np.nan)
    no_theory = None
    try:
        hp = records.info.hyperparameters(records.info.members[index][0])
        if theory.family_of(hp) is theory.Family.ADAMW:
            drive = np.full(steps.shape, float(group.numel))
        else:
            drive = sphere.unit_gradient_drive(gram, lr, weight_decay, momentum)
            residual = theory.law_of_motion_residual(
                hp, gram, steps=steps, lr=lr, weight_decay=weight_decay, momentum=momentum
            )
    except (NoTheory, InvalidArgument) as reason:
        no_theory = str(reason)
    return Series(
        group=group,
        hp=hp,
        steps=steps,
        gram=gram,
        angle=sphere.angle(gram),
        norm=sphere.norm(gram),
        drive=drive,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        residual=residual,
        non_finite=non_finite,
        no_theory=no_theory,
    )


def momentum_memory(stage: Stage) -> float:
    """Steps that the momentum buffer takes to forget the settings before the stage."""
    return MOMENTUM_MEMORIES / (1.0 - stage.hp.momentum) if stage.hp is not None else 0.0


def _other() -> HyperParameters:
    return HyperParameters("other", lr=0.0)
