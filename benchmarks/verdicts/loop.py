"""The training loop of a user, watched by the library, with places where a fault can edit it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import spherical_motion as smd
from verdicts.nets import Task
from verdicts.optimizers import OPTIMIZERS, Maker
from verdicts.schedules import SCHEDULES, Scheduler

__all__ = ["INVARIANT", "Loop"]

Act = Callable[[], None]
LOG_EVERY = 10
INVARIANT = "(all invariant groups)"
"""In `Loop.affected` this stands for every parameter of a certified group."""


class Loop:
    """One run. A fault replaces attributes before `train`, or adds lines with the `after_*`.

    Args:
        task: net and data.
        optimizer: name in `OPTIMIZERS`.
        schedule: name in `SCHEDULES`.
        length: steps.
        begins: the step at which a fault begins; `began` says whether it has.
        seed: of weights and batches.

    Attributes:
        affected: names of the parameters that the fault concerns; None for all.
        plan: the planned schedule that `watch` is told of, if any.
        every: which steps are measured.
    """

    def __init__(
        self, task: Task, optimizer: str, schedule: str, length: int, begins: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.task, self.kind, self.length, self.begins = task, optimizer, length, begins
        self.maker: Maker = OPTIMIZERS[optimizer]
        self.model: nn.Module = task.net.build()
        self.parameters = dict(self.model.named_parameters())
        self.batches: Iterator[Any] = task.net.batches(seed + 1)
        self.loss = task.net.loss
        self.schedule = SCHEDULES[schedule]
        self.accumulate, self.every = 1, 1
        self.spare_vectors = task.key == "plain"
        self.autocast: torch.dtype | None = None
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.optimizer_class: type[torch.optim.Optimizer] | None = None
        self.optimizer_settings: dict[str, Any] = {}
        self.affected: set[str] | None = None
        self.plan: smd.Schedule | None = None
        self.schedulers: list[Scheduler] = []
        self.step = 0
        self.last_loss = torch.tensor(0.0)
        self.backward: Act = self._backward
        self.update: Act = self._update
        self.advance: Act = self._advance
        self._lines: dict[str, list[Act]] = {"made": [], "backward": [], "update": []}

    @property
    def began(self) -> bool:
        """Whether the fault has begun."""
        return self.step >= self.begins

    @property
    def matrices(self) -> list[nn.Parameter]:
        """All parameters with more than one axis."""
        return [p for p in self.model.parameters() if p.ndim > 1]

    def layer(self) -> nn.Parameter:
        """The parameter that a fault of one layer hits; the others count as not affected."""
        self.affected = {self.task.layer}
        return self.parameters[self.task.layer]

    def after_made(self, line: Act) -> Act:
        """A line after the optimizer was made and before it is watched."""
        self._lines["made"].append(line)
        return line

    def after_backward(self, line: Act) -> Act:
        """A line between backward and step, from the step on at which the fault begins."""
        self._lines["backward"].append(line)
        return line

    def after_update(self, line: Act) -> Act:
        """A line after the optimizer's step, from the step on at which the fault begins."""
        self._lines["update"].append(line)
        return line

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of the model as it is now."""
        return self.maker(
            self.task,
            self.model,
            self.optimizer_class,
            self.optimizer_settings,
            self.spare_vectors,
        )

    def train(self, directory: Path) -> None:
        """Run it, recorded in `directory`."""
        self.optimizers = self.make_optimizers()
        if self.optimizer_class is not None and len(self.optimizers) > 1:
            own = {p for group in self.optimizers[0].param_groups for p in group["params"]}
            stepped = {name for name, p in self.parameters.items() if p in own}
            self.affected = stepped if self.affected is None else self.affected & stepped
        for line in self._lines["made"]:
            line()
        if self.schedule is not None:
            self.schedulers = [self.schedule(o, self.length) for o in self.optimizers]
        example = next(self.task.net.batches(0))[0]
        watched = self.optimizers[0] if len(self.optimizers) == 1 else self.optimizers
        more: dict[str, Any] = {} if self.plan is None else {"plan": self.plan}
        self.monitor = smd.watch(
            self.model,
            watched,
            example,
            directory,
            # A stream that two optimizers step has no single step to measure.
            groups="plain" if len(self.optimizers) > 1 else self.task.groups,
            every=self.every,
            quiet=True,
            **more,
        )
        with self.monitor:
            for step in range(self.length):
                self.step = step
                self._one_step()

    def _one_step(self) -> None:
        self.backward()
        self._run("backward")
        self.update()
        self._run("update")
        self.advance()
        if self.step % LOG_EVERY == 0:
            self.monitor.log(loss=self.last_loss)

    def _run(self, place: str) -> None:
        if self.began:
            for line in self._lines[place]:
                line()

    def _backward(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        for _ in range(self.accumulate):
            with self._precision():
                loss = self.loss(self.model, next(self.batches)) / self.accumulate
            self.scaler.scale(loss).backward()
            self.last_loss = loss.detach()

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast("cpu", dtype=self.autocast)

    def _update(self) -> None:
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()

    def _advance(self) -> None:
        for scheduler in self.schedulers:
            scheduler.step()
