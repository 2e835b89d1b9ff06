"""One optimizer's hooks: copy before a sampled step, measure after it, hand the sums on."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.errors import AlreadyAttached
from spherical_motion.measure.cpu import CpuGram
from spherical_motion.monitor.cells import CellMeter
from spherical_motion.monitor.snapshot import Snapshot
from spherical_motion.vocabulary.gram import FIELDS
from spherical_motion.vocabulary.hyperparameters import settings_of

__all__ = ["Sampling", "Sink", "Station"]

Settings = tuple[float, float, float, float | None]

_attached: weakref.WeakKeyDictionary[torch.optim.Optimizer, str] = weakref.WeakKeyDictionary()
"""Optimizers that are being watched, and where their runs are recorded."""

STEADY = 20
"""A change of settings is an event only after so many steps without one: schedules that change
them at every step would write one a step, and the settings are recorded with each sample anyway."""


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

    def event(self, kind: str, step: int | None = None, **data: Any) -> None:
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
        first_group: what to add to that index to get the run's numbering.
        sampling: which steps to measure.
        step: number of the next step.
        guarded: runs a hook's body; must not let an exception out.
        sink: takes the results.
        where: the run's directory, for the error of a second attachment.
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
        first_group: int,
        sampling: Sampling,
        step: int,
        guarded: Callable[[Callable[[], None]], None],
        sink: Sink,
        where: str,
    ) -> None:
        if optimizer in _attached:
            raise AlreadyAttached(
                f"This {type(optimizer).__name__} is watched already, by the monitor that records "
                f"to {_attached[optimizer]}. Close that one first: monitor.close()."
            )
        self.step = step
        self._optimizer = optimizer
        self._parameters = list(parameters)
        self._numbers, self._param_group = numbers, param_group
        self._first_group = first_group
        self._sampling, self._sink, self._guarded = sampling, sink, guarded
        self._snapshot = Snapshot(self._parameters)
        self._kernel, self._cells = CpuGram(self._parameters, slices), cells
        self._out = np.empty((len(slices), len(FIELDS)))
        self._ascending: set[int] = set()
        self._settings: list[Settings] = []
        self._rows = np.full((len(slices), 4), np.nan)
        self._changed_at = step
        self._armed = False
        self._was_finite = True
        self._read_settings()
        _attached[optimizer] = where
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: guarded(self._before)),
            optimizer.register_step_post_hook(lambda *_: guarded(self._after)),
        ]

    @property
    def nbytes(self) -> int:
        """Memory of the copy of the weights."""
        return self._snapshot.nbytes

    def detach(self) -> None:
        """Take the hooks off and end the threads; may be repeated."""
        for hook in self._hooks:
            hook.remove()
        _attached.pop(self._optimizer, None)
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
        finite = bool(np.isfinite(self._out[:, :3]).all())
        if self._was_finite and not finite:
            self._note_non_finite()
        self._was_finite = finite
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
        """Follow what schedulers do to the param groups; note a change after a quiet time."""
        now = [settings_of(group) for group in self._optimizer.param_groups]
        if now == self._settings:
            return
        table = np.array(now, dtype=np.float64)  # None becomes NaN
        self._rows = table[self._param_group]
        self._ascending = {
            id(parameter)
            for group in self._optimizer.param_groups
            if group.get("maximize")
            for parameter in group["params"]
        }
        if self._settings and self.step - self._changed_at >= STEADY:
            for index, (old, new) in enumerate(zip(self._settings, now, strict=False)):
                if new != old:
                    lr, weight_decay, momentum, _ = new
                    self._sink.event(
                        "rate_changed",
                        step=self.step,
                        param_group=self._first_group + index,
                        lr=lr,
                        weight_decay=weight_decay,
                        momentum=momentum,
                        lr_before=old[0],
                        weight_decay_before=old[1],
                    )
        if self._settings:
            self._changed_at = self.step
        self._settings = now

    def _was_skipped(self) -> bool:
        """Fused optimizers skip inside, on the GradScaler's word, and hooks fire all the same."""
        found = getattr(self._optimizer, "found_inf", None)
        return isinstance(found, torch.Tensor) and bool(found.item())

    def _note_non_finite(self) -> None:
        bad = ~np.isfinite(self._out[:, :3]).all(axis=1)
        self._sink.event("non_finite", step=self.step, slices=self._numbers[bad].tolist())
