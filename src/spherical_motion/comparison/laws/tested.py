"""The steps of one group at which the law of motion can be tested, and what rounding explains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.comparison.laws.continuity import written
from spherical_motion.comparison.motion import Motion
from spherical_motion.theory.motion import has_law_of_motion, law_of_motion_sides
from spherical_motion.theory.rounding import roundoff_of
from spherical_motion.vocabulary import Gram, HyperParameters, Stage

Array = NDArray[np.float64]
Mixed = Sequence[tuple[float, float, float]]

FINEST = 4.0
"""Steps must be this many times the spacing of the weights. Below it rounding errors repeat from
step to step instead of averaging out: at 1 the bias of a random step is 3e-9 of the spacing, at a
quarter 50%, and 4 leaves room for entries that are ten times as large as the others."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """Rows of a stage that the law of motion is about; arrays of shape (rows,).

    Attributes:
        hp: names the optimizer.
        gram, lr, weight_decay, momentum: products and settings of each row.
        steps: number of each step.
        counted: numbers by which neighbours are told.
        pair: whether the row is tested: it belongs to the stage, the row before is its neighbour
            where momentum needs it, and nothing wrote the weights in between.
        noise: standard deviation of what rounding of the weights leaves, in the unit of |w||g|.
        most: the most that it can leave.
    """

    hp: HyperParameters
    gram: Gram
    lr: Array
    weight_decay: Array
    momentum: Array
    steps: NDArray[np.int64]
    counted: NDArray[np.int64]
    pair: NDArray[np.bool_]
    noise: Array
    most: Array

    def rows(self, which: slice) -> Tested:
        """Some of the rows."""
        arrays = {
            field.name: getattr(self, field.name)[which]
            for field in dataclasses.fields(self)
            if field.name != "hp"
        }
        return dataclasses.replace(self, **arrays)

    def sides(
        self, hp: HyperParameters, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike
    ) -> tuple[Array, Array]:
        """What these settings leave of the law at each row, and the law's largest term."""
        return law_of_motion_sides(
            hp,
            self.gram,
            steps=self.counted,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
        )

    def declared(self) -> tuple[Array, Array]:
        """The same with the recorded settings."""
        return self.sides(self.hp, self.lr, self.weight_decay, self.momentum)


def why_untested(motion: Motion, mixed: Mixed) -> str:
    """Why the law of motion says nothing of a group; empty if it does."""
    if not has_law_of_motion(motion.hp):
        return f"{motion.optimizer} has no law of motion"
    if motion.no_theory is not None and motion.group.kind != "rescale":
        return motion.no_theory
    if not mixed:
        return ""
    rates, _, momenta = (len(set(column)) for column in zip(*mixed, strict=True))
    # λ|w|² of members with different decays is that of their mean; Nesterov and decoupled decay
    # also need λ<w, d>.
    linear = not motion.hp.decoupled and not motion.hp.nesterov
    return "" if rates == momenta == 1 and linear else "the members' settings differ"


def tested_steps(motion: Motion, stage: Stage) -> Tested:
    """The rows of a stage, and the one before it."""
    here = motion.within(stage.start - 1, stage.stop)
    moved = ~here.illegal & ~here.idle
    neighbours = np.diff(here.steps, prepend=here.steps[:1] - 2) == 1
    broken = written(here) | (neighbours & ~np.isfinite(here.written))
    breaks = np.cumsum(broken)[moved]
    here = here[moved]
    untouched = here.momentum == 0.0
    untouched[1:] |= np.diff(breaks) == 0
    noise, most = rounding(here, here.gram)
    tested = Tested(
        hp=here.hp,
        gram=here.gram,
        lr=here.lr,
        weight_decay=here.felt_decay if not here.hp.decoupled else here.weight_decay,
        momentum=here.momentum,
        steps=here.steps,
        counted=here.counted,
        pair=np.zeros(len(here), bool),
        noise=noise,
        most=most,
    )
    if not len(here):
        return tested
    left, largest = tested.declared()
    known = np.isfinite(left) & (largest > 0)
    pair = known & untouched & (here.steps >= stage.start)
    return dataclasses.replace(tested, pair=pair)


def too_fine(motion: Motion, tested: Tested) -> bool:
    """Whether the steps are too small beside the spacing of the weights to test the law."""
    gram = tested.gram[tested.pair]
    if not len(gram.ww):
        return False
    with np.errstate(divide="ignore", invalid="ignore"):
        step = float(np.median(np.sqrt(gram.dd / gram.ww)))
    return step < FINEST * 2.0 * roundoff_of(motion.dtype)


def rounding(here: Motion, gram: Gram) -> tuple[Array, Array]:
    """(standard deviation, bound) of what rounding of w + d leaves of the law.

    `gram` has the products of `here`, or of several groups like it, (groups, steps).

    Each entry of w + d is rounded by up to ε|w|, of variance ε²w²/3, so that <w, e> has the
    variance ε²Σw⁴/3, with Σw⁴ = 3|w|⁴/numel for weights of normal distribution. The law has it
    over η, and that of the step before, times α.
    """
    unit = roundoff_of(here.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = unit * np.sqrt(gram.ww) * (np.sqrt(gram.ww) + 2.0 * np.sqrt(gram.dd)) / here.lr
        size = size * (math.sqrt(2.0) if here.hp.decoupled else 1.0)
        before = np.zeros_like(size)
        before[..., 1:] = size[..., :-1]
        before = before * here.momentum
        before = np.where(here.momentum == 0.0, 0.0, before)
        return np.hypot(size, before) / math.sqrt(here.group.numel), size + before
