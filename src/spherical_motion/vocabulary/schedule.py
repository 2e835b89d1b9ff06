"""Learning rate, weight decay and momentum over a run.

Each docstring of a curve names a class of `torch.optim.lr_scheduler`. Entry t is its rate after t
calls of `scheduler.step()`, so a curve of n entries starts at its first value and reaches its last
*at* entry n, one past the end.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.hyperparameters import HyperParameters
from spherical_motion.vocabulary.schedule_file import read_table
from spherical_motion.vocabulary.stages import Stage, constant_runs

Array = NDArray[np.float64]


class Schedule:
    """Settings at each of `steps` steps.

    Args:
        hp: the settings that do not change: optimizer, nesterov, eps, ...
        lr: learning rate at each step, shape (steps,).
        weight_decay: the same, or None for `hp.weight_decay` throughout.
        momentum: the same, or None for `hp.momentum` throughout.
        start: number of the first step.
        recorded: the values are a record, not a plan: any value is accepted, and a stage whose
            settings no optimizer accepts gets `hp=None`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> plan = Schedule.step_decay(hp, steps=300, milestones=[100, 200])
    >>> [(s.start, s.stop, s.hp.lr) for s in plan.stages()]
    [(0, 100, 0.1), (100, 200, 0.01), (200, 300, 0.001)]
    >>> plan.at(150).lr
    0.01
    """

    @checks.validated
    def __init__(
        self,
        hp: HyperParameters,
        lr: ArrayLike,
        weight_decay: ArrayLike | None = None,
        momentum: ArrayLike | None = None,
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
            checks.numbers_in("Schedule", "lr", self.lr, least=0.0)
            checks.numbers_in("Schedule", "weight_decay", self.weight_decay, least=0.0)
            checks.numbers_in("Schedule", "momentum", self.momentum, least=0.0, below=1.0)

    def _per_step(self, name: str, values: ArrayLike | None, default: float) -> Array:
        if values is None:
            return np.full(self.lr.shape, default)
        array = np.array(values, dtype=np.float64)
        if array.shape != self.lr.shape:
            raise InvalidArgument(
                f"Schedule({name}=...) expects {self.lr.shape[0]} values like lr, "
                f"got shape {array.shape}."
            )
        return array

    @property
    def _settings(self) -> tuple[Array, Array, Array]:
        return self.lr, self.weight_decay, self.momentum

    @property
    def steps(self) -> int:
        """Length of the run in optimizer steps."""
        return self.lr.shape[0]

    @checks.validated
    def at(self, step: int) -> HyperParameters:
        """Settings at step number `step`."""
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
        """Maximal runs of constant settings; where settings keep changing, one varying stage.

        Settings keep changing in consecutive runs of fewer than 20 steps, and in staircases: five
        or more runs of one length with small changes between them (a cosine stepped every epoch).
        """
        stages: list[Stage] = []
        for a, b, varies in constant_runs(np.stack(self._settings)):
            first, last = self.start + a, self.start + b
            if varies and stages and stages[-1].hp is None:
                first = stages.pop().start
            stages.append(Stage(first, last, None if varies else self._known(first)))
        return tuple(stages)

    def _known(self, step: int) -> HyperParameters | None:
        try:
            return self.at(step)
        except InvalidArgument:  # a record may hold settings that no optimizer accepts
            return None

    def then(self, after: Schedule) -> Schedule:
        """Append `after`, which begins when this schedule ends.

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
        pairs = zip(self._settings, after._settings, strict=True)
        return Schedule(self.hp, *map(np.concatenate, pairs), start=self.start)

    def in_epochs(self, steps_per_epoch: int) -> Schedule:
        """The same schedule with each entry held for an epoch of `steps_per_epoch` steps.

        A scheduler that is stepped once an epoch does this.

        >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
        >>> plan = Schedule.step_decay(hp, 90, [30, 60, 80]).in_epochs(5005)
        >>> [s.steps for s in plan.stages()]
        [150150, 150150, 100100, 50050]
        """
        n = checks.whole("Schedule", "steps_per_epoch", steps_per_epoch, least=1)
        checks.count_of_steps("Schedule", "steps", self.steps * n)
        return Schedule(self.hp, *(np.repeat(x, n) for x in self._settings), start=self.start * n)

    @classmethod
    def constant(cls, hp: HyperParameters, steps: int) -> Schedule:
        """The same settings at every one of `steps` steps."""
        return cls(hp, np.full(checks.count_of_steps("Schedule", "steps", steps), hp.lr))

    @classmethod
    @checks.validated
    def step_decay(
        cls, hp: HyperParameters, steps: int, milestones: Sequence[int], factor: float = 10.0
    ) -> Schedule:
        """Divide lr by `factor` at each milestone, a step (`MultiStepLR`, gamma = 1/factor)."""
        checks.count_of_steps("Schedule", "steps", steps)
        checks.number("Schedule", "factor", factor, above=0.0)
        edges = [0, *(checks.whole("Schedule", "milestones", m) for m in milestones), steps]
        if any(b <= a for a, b in itertools.pairwise(edges)):
            raise InvalidArgument(
                "Schedule.step_decay(milestones=...) must increase strictly between 0 and "
                f"steps={steps}, got {list(milestones)}."
            )
        levels = [hp.lr / factor**drops for drops in range(len(milestones) + 1)]
        return cls(hp, np.repeat(levels, np.diff(edges)))

    @classmethod
    def linear_warmup(cls, hp: HyperParameters, steps: int, start_factor: float = 0.0) -> Schedule:
        """A line from `start_factor`·lr to lr, reached one step after the last (`LinearLR`)."""
        checks.number("Schedule", "start_factor", start_factor, least=0.0, most=1.0)
        return cls(hp, hp.lr * (start_factor + (1.0 - start_factor) * _elapsed(steps)))

    @classmethod
    def cosine(cls, hp: HyperParameters, steps: int, final_lr: float = 0.0) -> Schedule:
        """Half a cosine wave from lr to `final_lr` (`CosineAnnealingLR`)."""
        checks.number("Schedule", "final_lr", final_lr, least=0.0)
        wave = 1.0 + np.cos(np.pi * _elapsed(steps))
        return cls(hp, final_lr + (hp.lr - final_lr) * wave / 2.0)

    @classmethod
    def polynomial(
        cls, hp: HyperParameters, steps: int, power: float = 1.0, final_lr: float = 0.0
    ) -> Schedule:
        """final_lr + (lr - final_lr)·(1 - t/steps)^power (`PolynomialLR`; a line at power 1)."""
        checks.number("Schedule", "power", power, above=0.0)
        checks.number("Schedule", "final_lr", final_lr, least=0.0)
        return cls(hp, final_lr + (hp.lr - final_lr) * (1.0 - _elapsed(steps)) ** power)

    @classmethod
    @checks.validated
    def exponential(cls, hp: HyperParameters, steps: int, final_lr: float) -> Schedule:
        """From lr to `final_lr` > 0 by the same factor at each step (`ExponentialLR`)."""
        checks.number("Schedule", "lr", hp.lr, above=0.0)
        checks.number("Schedule", "final_lr", final_lr, above=0.0)
        return cls(hp, hp.lr * np.exp(math.log(final_lr / hp.lr) * _elapsed(steps)))

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
        for name, value in (("warmup", warmup), ("decay", decay)):
            checks.whole("Schedule", name, value)
        stable = checks.count_of_steps("Schedule", "steps", steps) - warmup - decay
        if min(warmup, decay, stable) < 0:
            raise InvalidArgument(
                "Schedule.warmup_stable_decay: warmup and decay must be >= 0 and fit into "
                f"steps={steps}, got warmup={warmup}, decay={decay}."
            )
        parts = [
            cls.linear_warmup(hp, warmup).lr if warmup else (),
            np.full(stable, hp.lr),
            cls.polynomial(hp, decay, final_lr=final_lr).lr if decay else (),
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

        Columns: `step` or `epoch` (from 0, increasing), `lr`, and optionally `weight_decay` and
        `momentum`.

        Args:
            path: the CSV file.
            hp: the settings that the table does not have.
            steps: length of the run. Left out, the last row lasts one step, or one epoch.
            steps_per_epoch: needed if the table counts epochs.

        Raises:
            InvalidArgument: the file is not such a table; the message names the line.
        """
        table = read_table(path, steps, steps_per_epoch)
        return cls(hp, table["lr"], table.get("weight_decay"), table.get("momentum"))


def _elapsed(steps: int) -> Array:
    """The fraction t/steps of the curve that has passed, shape (steps,)."""
    return np.arange(checks.count_of_steps("Schedule", "steps", steps)) / steps
