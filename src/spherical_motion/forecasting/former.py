"""What a former run tells a plan: its pull in each stage, the norm it ended with, and its drive.

The drive is that of the run's own steps: with it the family's formula gives |d|²/|w|² as measured
over the late steps, so that the plan starts with the turning and the growth that the run ended
with. For plain groups drive and pull may change with the norm in other ways than the formulas take.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.estimates import Estimate
from spherical_motion.records import Records
from spherical_motion.records.written import WRITTEN, written_between
from spherical_motion.theory import GroupFacts, balance
from spherical_motion.theory.driven import step_ratios_under
from spherical_motion.theory.late_pull import idle, late, mean_pull, start_up, stopped_for
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import Gram, HyperParameters, Stage
from spherical_motion.vocabulary.hyperparameters import pull_scale

Array = NDArray[np.float64]

LARGEST_MISS = 0.05
"""An exact balance law that misses by more than this does not hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class FormerRun:
    """One group of a recorded run; arrays hold its lawful samples at which it was stepped.

    Attributes:
        group: its name.
        hp: the run's optimizer.
        certified: whether the group is scale-invariant.
        stages: the run's stages.
        norm: |w| where the run ended.
        last_step: the last step of the run.
        pulls: p at each sample.
        written: relative change of the norm since the end of the step before, where it is known.
        dtype: of the weights, if it was recorded.
        alike: whether its members share one setting.
        stopped: how many steps the run went on after the group's last gradient.
    """

    group: str
    hp: HyperParameters
    certified: bool
    stages: tuple[Stage, ...]
    norm: float
    last_step: int
    steps: NDArray[np.int64]
    gram: Gram
    lr: Array
    weight_decay: Array
    pulls: Array
    momentum: Array
    written: Array
    dtype: str | None = None
    alike: bool = True
    stopped: int = 0

    @property
    def ending(self) -> str:
        """Where the plan starts, in words."""
        return f"from norm {self.norm:.4g}, where the run ended after step {self.last_step:,}"

    @property
    def changes_with_norm(self) -> bool:
        """Whether the pull changes as the norm does, which a forecast does not follow."""
        coupled = self.hp.optimizer == "adam" and not self.hp.decoupled
        return coupled or not self.certified

    def moving(self, number: int) -> int:
        """The number of a stage, or of the nearest one before it, or after it, that moved."""
        moved = self.steps[(self.lr > 0) & (self.gram.dd > 0)]
        found = [
            i
            for i, stage in enumerate(self.stages, start=1)
            if ((moved >= stage.start) & (moved < stage.stop)).any()
        ]
        return max((i for i in found if i <= number), default=min(found, default=number))

    def pull(self, number: int) -> Estimate:
        """p in a stage, from 1: of its late steps, the number that a comparison has for it.

        Raises:
            InvalidArgument: <w, Px> was not recorded there.
        """
        here = self._late(number)
        found = mean_pull(self.pulls[here], self.lr[here])
        if not np.isfinite(found.value):
            raise InvalidArgument(
                f"forecast(pull=...): the run has no pull of group {self.group!r} in stage "
                f"{number}: <w, Px> was not recorded there. Watch with products=7."
            )
        return found

    def doubt(self, number: int) -> str:
        """Why the pull of a stage is not to be relied on; empty if nothing speaks against it."""
        here = self._late(number)
        written = self.written[here][np.isfinite(self.written[here])]
        writes = written[np.abs(written) > WRITTEN]
        if writes.size:
            return (
                f"something else wrote these weights between steps, at {writes.size:,} of "
                f"{written.size:,} steps and by {100 * float(np.median(writes)):+.2g}% of the norm "
                "each, which is not in their pull"
            )
        if self.stopped and number == self.moving(len(self.stages)):
            return (
                f"its gradient stopped {self.stopped:,} steps before the end of that run, and the "
                "pull is from before"
            )
        found = balance(
            self.hp,
            self.gram[here],
            steps=self.steps[here],
            lr=self.lr[here],
            weight_decay=self.weight_decay[here],
            momentum=self.momentum[here],
            dtype=self.dtype,
        )
        fails = abs(found.ratio - 1.0) > LARGEST_MISS
        if self.alike and fails and not found.neglects:
            return (
                f"its steps are not what its settings say (measured over predicted turning "
                f"{found.ratio:.2f}), so that more than decay and loss may move these weights"
            )
        return ""

    def own_pull(self, number: int) -> float:
        """The part of it that is weight decay; λ for Adam with L2, where it is not known."""
        here = self._late(number)
        scale = 1.0 if self.hp.decoupled else pull_scale(self.hp, self.momentum[here])
        known = np.where(np.isfinite(self.pulls[here]), self.weight_decay[here] * scale, np.nan)
        return mean_pull(known, self.lr[here]).value

    def decays(self, number: int) -> tuple[float, ...]:
        """The values that weight decay has in the late steps of a stage."""
        return tuple(np.unique(self.weight_decay[self._late(number)]).tolist())

    def drive(self, hp: HyperParameters, facts: GroupFacts) -> float:
        """The drive under which the last stage's late steps are as long as they were.

        Args:
            hp: the settings of the family whose drive it is.
            facts: what else the family needs of the group.
        """
        here = self._late(self.moving(len(self.stages)))
        gram, s = self.gram[here], Steps(self.lr[here], np.nan, self.momentum[here])
        unit = step_ratios_under(hp, np.sqrt(gram.ww), s, 1.0, facts)
        return float(gram.dd.sum() / (unit * gram.ww).sum())

    def _late(self, number: int) -> NDArray[np.intp]:
        """The late samples of a stage; of a stage that is too short to be judged all."""
        stage = self.stages[number - 1]
        inside = np.flatnonzero((self.steps >= stage.start) & (self.steps < stage.stop))
        if not len(inside):
            return inside
        begun = inside[self.steps[inside] >= stage.start + start_up(self.momentum[inside])]
        judged = begun if len(begun) else inside
        return judged[late(self.momentum[judged])]


def former_run(records: Records, group: str | None) -> FormerRun:
    """What `records` hold of a group.

    Raises:
        InvalidArgument: no group is named, there is no such group, or nothing is known of it.
    """
    if group is None:
        names = ", ".join(records.groups[:3])
        raise InvalidArgument(
            f"forecast(pull=records) needs group=, the name of one of its groups ({names}, ...)."
        )
    column = records.index(group)
    schedule = records.schedule(group)
    gram = records.gram[:, column]
    lr, weight_decay, momentum = (
        x[:, column] for x in (records.lr, records.weight_decay, records.momentum)
    )
    finite = np.isfinite(lr) & np.isfinite(gram.ww) & np.isfinite(gram.wd) & np.isfinite(gram.dd)
    legal = (lr >= 0) & (weight_decay >= 0) & (momentum >= 0) & (momentum < 1)
    kept = finite & legal & (gram.ww > 0) & ~idle(gram)
    if not (kept & (gram.dd > 0)).any():
        raise InvalidArgument(
            f"forecast(pull=...): group {group!r} of {records.directory} never moved, so it tells "
            "nothing of a plan."
        )
    lawful = np.flatnonzero(finite & legal & (gram.ww > 0))
    tail = stopped_for(records.steps[lawful], idle(gram[lawful]))
    written = written_between(records, gram[lawful], records.steps[lawful])
    written = written[kept[lawful]]
    last = gram[lawful[-1]]
    gram, steps = gram[kept], records.steps[kept]
    lr, weight_decay, momentum = (x[kept] for x in (lr, weight_decay, momentum))
    hp = records.info.hyperparameters(records.main_slices[column])
    return FormerRun(
        group=group,
        hp=hp,
        certified=records.info.groups[column].kind == "scale",
        stages=tuple(schedule.stages()),
        norm=float(np.sqrt(last.ww + 2.0 * last.wd + last.dd)),
        last_step=int(records.steps[lawful[-1]]),
        steps=steps,
        gram=gram,
        lr=lr,
        weight_decay=weight_decay,
        pulls=records.pull()[kept, column],
        momentum=momentum,
        written=written,
        dtype=records.info.dtype_of(column),
        alike=group not in records.mixed,
        stopped=int(records.steps[lawful[-1]] - steps[-1]) if tail else 0,
    )
