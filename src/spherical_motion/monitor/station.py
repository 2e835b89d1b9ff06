"""One optimizer's hooks: copy before a sampled step, measure after it, hand the sums on."""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.hooks import RemovableHandle

from spherical_motion.errors import AlreadyAttached
from spherical_motion.measure.cpu import CpuGram
from spherical_motion.monitor.cells import CellMeter
from spherical_motion.monitor.snapshot import Snapshot
from spherical_motion.vocabulary.gram import FIELDS
from spherical_motion.vocabulary.hyperparameters import settings_of

__all__ = ["Sampling", "Sink", "Station", "refuse_second"]

Settings = tuple[float, float, float, float | None]

_attached: weakref.WeakKeyDictionary[torch.optim.Optimizer, str] = weakref.WeakKeyDictionary()
"""Optimizers that are being watched, and where their runs are recorded."""


def refuse_second(optimizer: torch.optim.Optimizer) -> None:
    """Raise AlreadyAttached if the optimizer has a monitor."""
    if optimizer in _attached:
        raise AlreadyAttached(
            f"This {type(optimizer).__name__} is watched already, by the monitor that records to "
            f"{_attached[optimizer]}. Close that one first: monitor.close()."
        )


STEADY = 20
"""A change of a param group's settings is an event only after so many steps without one: schedules
that change them at every step would write one a step, and each sample records the settings."""

FIXED = ("nesterov", "dampening", "maximize", "amsgrad", "eps", "decoupled_weight_decay")
"""Settings that schedules leave alone; a change of them puts the theory in doubt."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Which steps are measured: `burst` consecutive ones out of every `every`.

    And of which the cells are measured too: one in `cells_every`.

    >>> [step for step in range(12) if Sampling(every=5, burst=2).takes(step)]
    [0, 1, 5, 6, 10, 11]
    """

    every: int
    burst: int
    cells_every: int | None = None

    def takes(self, step: int) -> bool:
        """Whether step number `step` is measured."""
        return step % self.every < self.burst or self.takes_cells(step)

    def takes_cells(self, step: int) -> bool:
        """Whether its cells are."""
        return self.cells_every is not None and step % self.cells_every == 0


class Sink(Protocol):
    """Where a station's results go; the monitor is one."""

    def rows(
        self, step: int, gram: NDArray[Any], settings: NDArray[Any], slices: NDArray[Any]
    ) -> None:
        """Take the sums of one step."""
        ...

    def cells(self, step: int, group: int, gram: NDArray[Any]) -> None:
        """Take the sums of one group's cells."""
        ...

    def event(self, kind: str, /, step: int | None = None, **data: Any) -> None:
        """Take note of something that happened."""
        ...


class Station:
    """Hooks on one optimizer that measure the slices it owns.

    Args:
        optimizer: hooked through `register_step_pre_hook` and `register_step_post_hook`.
        parameters: what is measured here; looked at anew at each step, gradients too.
        slices: shape (slices, 4), rows (index into parameters, axis, start, stop).
        numbers: the slices' numbers in the run, shape (slices,).
        param_group: per slice, index into `optimizer.param_groups`.
        cells: measures the cells of the groups that lie here.
        number: of the optimizer in the run.
        sampling: which steps to measure.
        guarded: runs a hook's body; must not let an exception out.
        sink: takes the results.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[torch.nn.Parameter],
        slices: NDArray[np.int64],
        numbers: NDArray[np.int32],
        param_group: NDArray[np.int64],
        cells: CellMeter,
        *,
        number: int,
        sampling: Sampling,
        guarded: Callable[[Callable[[], None]], None],
        sink: Sink,
    ) -> None:
        self.step = 0
        self.optimizer = optimizer
        self._parameters = list(parameters)
        self._numbers, self._param_group = numbers, param_group
        self._number = number
        self._sampling, self._sink, self._guarded = sampling, sink, guarded
        self._snapshot = Snapshot(self._parameters)
        self._kernel, self._cells = CpuGram(self._parameters, slices), cells
        self._out = np.empty((len(slices), len(FIELDS)))
        self._ascending: set[int] = set()
        self._settings: list[Settings] = []
        self._rows = np.full((len(slices), 4), np.nan)
        self._fixed: list[dict[str, Any]] = []
        self._changed_at: list[float] = []
        self._armed = False
        self._bad = np.zeros(len(slices), dtype=bool)
        self._hooks: list[RemovableHandle] = []
        self._read_settings()

    @property
    def nbytes(self) -> int:
        """Memory of the copy of the weights."""
        return self._snapshot.nbytes

    def attach(self, step: int, where: str) -> None:
        """Hook the optimizer, whose next step is number `step`; `where` is the run's directory."""
        self.step = step
        _attached[self.optimizer] = where
        self._hooks = [
            self.optimizer.register_step_pre_hook(lambda *_: self._guarded(self._before)),
            self.optimizer.register_step_post_hook(lambda *_: self._guarded(self._after)),
        ]

    def detach(self) -> None:
        """Take the hooks off and end the threads; may be repeated."""
        for hook in self._hooks:
            hook.remove()
        if self._hooks:
            _attached.pop(self.optimizer, None)
        self._hooks = []
        self._kernel.close()
        self._cells.close()

    def _before(self) -> None:
        self._read_settings()
        self._armed = self._sampling.takes(self.step)
        if self._armed:
            self._snapshot.take(self._parameters)

    def _after(self) -> None:
        if self._was_skipped():
            self._sink.event("skipped", step=self.step, why="the gradient scaler found inf or NaN")
            return
        if self._armed:
            with torch.no_grad():
                self._measure()
        self.step += 1

    def _measure(self) -> None:
        # Gradients are read here and not before the step: step(closure) makes them in between.
        grads = [self._descended(parameter) for parameter in self._parameters]
        self._kernel(self._parameters, self._snapshot.tensors, grads, self._out)
        bad = ~np.isfinite(self._out[:, :3]).all(axis=1)
        if (bad & ~self._bad).any():
            slices = self._numbers[bad & ~self._bad].tolist()
            self._sink.event("non_finite", step=self.step, slices=slices)
        self._bad = bad
        if self._sampling.takes_cells(self.step):
            measured = self._cells(self._parameters, self._snapshot.tensors, grads)
            for group, products in measured.items():
                self._sink.cells(self.step, group, products)
        self._sink.rows(self.step, self._out, self._rows, self._numbers)

    def _descended(self, parameter: torch.nn.Parameter) -> torch.Tensor | None:
        """The gradient of what is minimized: a maximizing optimizer steps along +g."""
        grad = parameter.grad
        return grad if grad is None or id(parameter) not in self._ascending else -grad

    def _read_settings(self) -> None:
        """Follow what schedulers and users do to the param groups; note what will last."""
        groups = self.optimizer.param_groups
        now = [settings_of(group) for group in groups]
        fixed = [{name: group[name] for name in FIXED if name in group} for group in groups]
        if fixed != self._fixed:
            self._note_changed(fixed)
        if now == self._settings:
            return
        self._rows = np.array(now, dtype=np.float64)[self._param_group]  # None becomes NaN
        self._changed_at += [-math.inf] * (len(now) - len(self._changed_at))
        for index, (old, new) in enumerate(zip(self._settings, now, strict=False)):
            if new != old:
                if self.step - self._changed_at[index] >= STEADY:
                    self._note_rate(index, old, new)
                self._changed_at[index] = self.step
        self._settings = now

    def _note_rate(self, index: int, old: Settings, new: Settings) -> None:
        self._sink.event(
            "rate_changed",
            step=self.step,
            optimizer=self._number,
            param_group=index,
            lr=new[0],
            weight_decay=new[1],
            momentum=new[2],
            lr_before=old[0],
            weight_decay_before=old[1],
        )

    def _note_changed(self, fixed: list[dict[str, Any]]) -> None:
        """Settings that no schedule touches: once attached, a change of them is an event."""
        for index, (old, new) in enumerate(zip(self._fixed, fixed, strict=False)):
            changed = {name: value for name, value in new.items() if value != old.get(name)}
            if changed:
                self._sink.event(
                    "settings_changed",
                    step=self.step,
                    optimizer=self._number,
                    param_group=index,
                    changed=changed,
                )
        self._fixed = fixed
        self._ascending = {
            id(parameter)
            for group in self.optimizer.param_groups
            if group.get("maximize")
            for parameter in group["params"]
        }

    def _was_skipped(self) -> bool:
        """Fused optimizers skip inside, on the GradScaler's word, and hooks fire all the same."""
        found = getattr(self.optimizer, "found_inf", None)
        return isinstance(found, torch.Tensor) and bool(found.item())
