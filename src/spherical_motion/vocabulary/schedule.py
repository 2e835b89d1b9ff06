"""Learning rate, weight decay and momentum over a run, and the stages they fall into."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import shapes
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule_file import read_table
from spherical_motion.vocabulary.shapes import positive_int

__all__ = ["SHORTEST_STAGE", "Schedule", "Stage"]

SHORTEST_STAGE = 20
"""Runs of constant settings under this many steps merge into one varying stage."""

FEWEST_STAIRS = 5
"""So many runs of one length make a staircase ..."""

STAIR_TOLERANCE = 0.1
"""... if their lengths differ by at most this share ..."""

TALLEST_STAIR = 1.5
"""... and the settings, typically, by less than this factor: ÷10 every 30 epochs is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """Steps `start:stop` with constant settings `hp`, or varying ones when `hp` is None."""

    start: int
    stop: int
    hp: HyperParameters | None

    @property
    def steps(self) -> int:
        """How many steps it lasts."""
        return self.stop - self.start

    @property
    def settings(self) -> str:
        """Its settings in words, like "lr 0.1, weight decay 0.01, momentum 0.9"."""
        if self.hp is None:
            return "settings vary"
        words = f"lr {self.hp.lr:g}, weight decay {self.hp.weight_decay:g}"
        if self.hp.beta2 is not None:
            return words + f", betas {self.hp.momentum:g} and {self.hp.beta2:g}"
        return words + (f", momentum {self.hp.momentum:g}" if self.hp.momentum else "")


class Schedule:
    """Settings at each of `steps` steps.

    Args:
        hp: what does not change: optimizer, nesterov, eps, ...
        lr: learning rate at each step, shape (steps,).
        weight_decay: the same, or None for `hp.weight_decay` throughout.
        momentum: the same, or None for `hp.momentum` throughout.
        start: number of the first step.
        recorded: the values are a record of what was, not a plan: any value is taken, and a
            stage whose settings no optimizer can have gets `hp=None`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> plan = Schedule.step_decay(hp, steps=300, milestones=[100, 200])
    >>> [(s.start, s.stop, s.hp.lr) for s in plan.stages()]
    [(0, 100, 0.1), (100, 200, 0.01), (200, 300, 0.001)]
    >>> plan.at(150).lr
    0.01
    """

    def __init__(
        self,
        hp: HyperParameters,
        lr: Any,
        weight_decay: Any = None,
        momentum: Any = None,
        start: int = 0,
        *,
        recorded: bool = False,
    ) -> None:
        self.hp = hp
        self.start = start
        self.lr = np.array(lr, dtype=np.float64)
        if self.lr.ndim != 1 or self.lr.size == 0:
            raise InvalidArgument(
                f"Schedule(lr=...) expects one value a step, shape (steps,), got {self.lr.shape}."
            )
        self.weight_decay = self._per_step("weight_decay", weight_decay, hp.weight_decay)
        self.momentum = self._per_step("momentum", momentum, hp.momentum)
        if not recorded:
            self._check("lr", self.lr)
            self._check("weight_decay", self.weight_decay)
            self._check("momentum", self.momentum, below=1.0)

    def _per_step(self, name: str, values: Any, default: float) -> NDArray[np.float64]:
        if values is None:
            return np.full(self.lr.shape, default)
        array = np.array(values, dtype=np.float64)
        if array.shape != self.lr.shape:
            raise InvalidArgument(
                f"Schedule({name}=...) expects {self.lr.shape[0]} values like lr, "
                f"got shape {array.shape}."
            )
        return array

    def _check(self, name: str, values: NDArray[np.float64], below: float = np.inf) -> None:
        bad = ~(np.isfinite(values) & (values >= 0) & (values < below))
        if bad.any():
            i = int(np.argmax(bad))
            limit = f" and < {below:g}" if below < np.inf else ""
            raise InvalidArgument(
                f"Schedule: {name} at step {self.start + i} must be finite, >= 0{limit}, "
                f"got {values[i]}."
            )

    @property
    def steps(self) -> int:
        """Length of the run in optimizer steps."""
        return self.lr.shape[0]

    def at(self, step: int) -> HyperParameters:
        """Settings used by step number `step`."""
        i = step - self.start
        if not 0 <= i < self.steps:
            raise InvalidArgument(
                f"Schedule.at expects a step in [{self.start}, {self.start + self.steps}), "
                f"got {step}."
            )
        return dataclasses.replace(
            self.hp,
            lr=float(self.lr[i]),
            weight_decay=float(self.weight_decay[i]),
            momentum=float(self.momentum[i]),
        )

    def stages(self) -> tuple[Stage, ...]:
        """Maximal runs of constant settings; what changes all the time is one varying stage.

        Two things do: runs under 20 steps in a row, and staircases, at least five runs of one
        length whose settings change little from one to the next (a cosine stepped every epoch).
        """
        values = np.stack([self.lr, self.weight_decay, self.momentum])
        changes = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(axis=0)) + 1
        edges = np.array([0, *changes.tolist(), self.steps])
        short = (np.diff(edges) < SHORTEST_STAGE) & (len(edges) > 2)  # a lone run varies nowhere
        varying = short | _staircases(edges, values[:2, edges[:-1]])
        stages: list[Stage] = []
        for a, b, varies in zip(edges[:-1].tolist(), edges[1:].tolist(), varying, strict=True):
            first, last = self.start + a, self.start + b
            if not varies:
                stages.append(Stage(first, last, self._known(first)))
            elif stages and stages[-1].hp is None:
                stages[-1] = Stage(stages[-1].start, last, None)
            else:
                stages.append(Stage(first, last, None))
        return tuple(stages)

    def _known(self, step: int) -> HyperParameters | None:
        try:
            return self.at(step)
        except InvalidArgument:  # a record may hold what no optimizer can be told
            return None

    def then(self, after: Schedule) -> Schedule:
        """Both in a row: `after` begins when this schedule is over.

        Raises:
            InvalidArgument: they differ in more than lr, weight decay and momentum.

        >>> hp = HyperParameters("sgd", lr=0.4, weight_decay=5e-4, momentum=0.9)
        >>> plan = Schedule.linear_warmup(hp, 4).then(Schedule.cosine(hp, 4))
        >>> [round(lr, 3) for lr in plan.lr.tolist()]
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.341, 0.2, 0.059]
        """
        same = {"lr": 0.0, "weight_decay": 0.0, "momentum": 0.0}
        if dataclasses.replace(self.hp, **same) != dataclasses.replace(after.hp, **same):
            raise InvalidArgument(
                "Schedule.then: both must be for one optimizer with one beta2, eps, nesterov, "
                f"dampening, got {self.hp} and {after.hp}."
            )
        pairs = [
            (self.lr, after.lr),
            (self.weight_decay, after.weight_decay),
            (self.momentum, after.momentum),
        ]
        return Schedule(self.hp, *map(np.concatenate, pairs), start=self.start)

    def in_epochs(self, steps_per_epoch: int) -> Schedule:
        """The same schedule with each entry read as an epoch of `steps_per_epoch` steps.

        This is what a scheduler does that is stepped once an epoch.

        >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
        >>> plan = Schedule.step_decay(hp, 90, [30, 60, 80]).in_epochs(5005)
        >>> [s.steps for s in plan.stages()]
        [150150, 150150, 100100, 50050]
        """
        n = positive_int("steps_per_epoch", steps_per_epoch)
        values = (self.lr, self.weight_decay, self.momentum)
        return Schedule(self.hp, *(np.repeat(x, n) for x in values), start=self.start * n)

    @classmethod
    def constant(cls, hp: HyperParameters, steps: int) -> Schedule:
        """The same settings at every one of `steps` steps."""
        return cls(hp, np.full(positive_int("steps", steps), hp.lr))

    @classmethod
    def step_decay(
        cls, hp: HyperParameters, steps: int, milestones: Sequence[int], factor: float = 10.0
    ) -> Schedule:
        """Divide the learning rate by `factor` at each milestone (a step number)."""
        return cls(hp, shapes.staircase(hp.lr, steps, milestones, factor))

    @classmethod
    def linear_warmup(cls, hp: HyperParameters, steps: int, start_factor: float = 0.0) -> Schedule:
        """From `start_factor`·lr to lr, which the step after the last would have."""
        return cls(hp, shapes.ramp(hp.lr, steps, start_factor))

    @classmethod
    def cosine(cls, hp: HyperParameters, steps: int, final_lr: float = 0.0) -> Schedule:
        """Half a cosine wave from lr to `final_lr`."""
        return cls(hp, shapes.cosine_curve(hp.lr, steps, final_lr))

    @classmethod
    def polynomial(
        cls, hp: HyperParameters, steps: int, power: float = 1.0, final_lr: float = 0.0
    ) -> Schedule:
        """From lr to `final_lr` as (1 - t/steps)^power; a straight line at power 1."""
        return cls(hp, shapes.polynomial_curve(hp.lr, steps, power, final_lr))

    @classmethod
    def exponential(cls, hp: HyperParameters, steps: int, final_lr: float) -> Schedule:
        """From lr to `final_lr` > 0 by the same factor at each step."""
        return cls(hp, shapes.exponential_curve(hp.lr, steps, final_lr))

    @classmethod
    def warmup_stable_decay(
        cls, hp: HyperParameters, steps: int, warmup: int, decay: int, final_lr: float = 0.0
    ) -> Schedule:
        """WSD: `warmup` steps up to lr, lr, and over the last `decay` steps a line to `final_lr`.

        >>> hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
        >>> plan = Schedule.warmup_stable_decay(hp, steps=1000, warmup=100, decay=200)
        >>> [(s.start, s.stop, s.hp is None) for s in plan.stages()]
        [(0, 100, True), (100, 801, False), (801, 1000, True)]
        """
        stable = positive_int("steps", steps) - warmup - decay
        if min(warmup, decay, stable) < 0:
            raise InvalidArgument(
                "Schedule.warmup_stable_decay: warmup and decay must be >= 0 and fit into "
                f"steps={steps}, got warmup={warmup}, decay={decay}."
            )
        parts = [
            shapes.ramp(hp.lr, warmup, 0.0) if warmup else (),
            np.full(stable, hp.lr),
            shapes.polynomial_curve(hp.lr, decay, 1.0, final_lr) if decay else (),
        ]
        return cls(hp, np.concatenate(parts))

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        hp: HyperParameters,
        *,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> Schedule:
        """Read a table with a header; each row holds from its step, or epoch, to the next row's.

        Columns: `step` or `epoch` (from 0, increasing), `lr`, and if they change
        `weight_decay` and `momentum`.

        Args:
            path: the CSV file.
            hp: whatever the table leaves open.
            steps: length of the run. Left out, the last row lasts one step, or one epoch.
            steps_per_epoch: needed if the table counts epochs.

        Raises:
            InvalidArgument: the file is no such table; the message names the line.
        """
        table = read_table(path, steps, steps_per_epoch)
        return cls(hp, table["lr"], table.get("weight_decay"), table.get("momentum"))


def _staircases(edges: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which runs belong to a staircase; `values` (2, runs) are lr and weight decay of each."""
    lengths = np.diff(edges)
    found = np.zeros(lengths.shape, dtype=bool)
    first = 0
    while first < len(lengths):
        alike = np.abs(lengths[first:] / lengths[first] - 1.0) <= STAIR_TOLERANCE
        count = len(alike) if alike.all() else int(np.argmin(alike))
        if count >= FEWEST_STAIRS:
            steps = values[:, first : first + count]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios = np.abs(np.log(steps[:, 1:] / steps[:, :-1])).max(axis=0)
            if np.median(ratios) < np.log(TALLEST_STAIR):
                found[first : first + count] = True
                # The first and the last stair may be cut short.
                found[max(first - 1, 0)] |= bool(lengths[max(first - 1, 0)] < lengths[first])
                after = min(first + count, len(lengths) - 1)
                found[after] |= bool(lengths[after] < lengths[first])
        first += count
    return found
