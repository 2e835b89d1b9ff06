"""What hooks report on its way into a run, until it is closed, fails or has no owner left."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.monitor.audit import Unstepped
from spherical_motion.monitor.run.hooks import sweep
from spherical_motion.monitor.sinks import Array, Settings
from spherical_motion.monitor.station import Station
from spherical_motion.notices import described, listed, notify, stopped, warn_recording_stopped
from spherical_motion.records import RunWriter
from spherical_motion.vocabulary.events import EventKind


class Recording:
    """Takes what stations report, and ends the run when nothing can report any more.

    The hooks of the optimizers hold it, and so does the monitor. When the monitor and all
    optimizers are gone, it takes its hooks off and ends the run without waiting for the disk.

    Nothing raises into a training loop, and nothing but `flush` and `close` waits for the disk. In
    a forked process all of it does nothing.

    Args:
        quiet: say nothing at the end about what was left out.
        step: what `step` is while nothing has begun.
    """

    def __init__(self, *, quiet: bool = True, step: int = 0) -> None:
        self._quiet, self._step = quiet, step
        self._pid = os.getpid()
        self._active = False
        self._writer: RunWriter | None = None
        self._optimizers: Sequence[torch.optim.Optimizer] = ()
        self.stations: Sequence[Station] = ()
        self._unstepped: Sequence[Unstepped] = ()

    def begin(
        self,
        writer: RunWriter,
        optimizers: Sequence[torch.optim.Optimizer],
        stations: Sequence[Station],
        steps: Sequence[int],
        unstepped: Sequence[Unstepped],
    ) -> None:
        """Attach the stations, whose next steps are `steps`; from now on they report.

        Args:
            writer: of the run.
            optimizers: all optimizers of the monitor, in the order of the run.
            stations: of those that step something watched, at least one.
            steps: for each station the number of its next step.
            unstepped: what notices that an optimizer of a station is left behind.
        """
        self._writer, self._optimizers = writer, optimizers
        self.stations, self._unstepped = stations, unstepped
        for station, step in zip(stations, steps, strict=True):
            station.attach(step, str(writer.directory))
        for each in unstepped:
            each.attach()
        self._active = True

    @property
    def is_active(self) -> bool:
        """Whether it records, in this process."""
        return self._active and os.getpid() == self._pid

    @property
    def step(self) -> int:
        """Number of the next step of the first station."""
        return self.stations[0].step if self.stations else self._step

    def guarded(self, hook: Callable[[], None]) -> None:
        """Run a hook's body; no exception in it may reach the training loop."""
        if not self.is_active:
            return
        try:
            hook()
        except Exception as error:  # measuring stops with one warning, and training goes on
            self._stop(error)
        else:
            if self._writer is not None and self._writer.failure is not None:
                self._end()  # that it has failed was said already

    # What hooks report.

    def settings(self, step: int, param_group: int, values: Settings) -> None:
        """Take the settings that hold from a step on."""
        if self._writer is not None:
            self._writer.settings(step, param_group, values)

    def rows(self, step: int, gram: Array, slices: NDArray[np.int32] | None) -> None:
        """Take a station's sums, of all slices or of these."""
        if self._writer is not None:
            self._writer.rows(step, gram, slices)

    def cells(self, step: int, group: int, gram: Array) -> None:
        """Take the sums of a group's cells."""
        if self._writer is not None:
            self._writer.cells(step, group, gram)

    def correlation(self, step: int, group: int, rho: Array, update_sq: float) -> None:
        """Take the correlation of a group's updates."""
        if self._writer is not None:
            self._writer.correlation(step, group, rho, update_sq)

    def audit(self, step: int, parameters: NDArray[np.int32], sums: Array) -> None:
        """Take the sums of an audited step."""
        if self._writer is not None:
            self._writer.audit(step, parameters, sums)

    def audit_step(
        self,
        step: int,
        optimizer: int,
        counter: float,
        taken: float,
        grad_norm: float,
        skipped: str,
    ) -> None:
        """Take the facts of an audited step."""
        if self._writer is not None:
            self._writer.audit_step(step, optimizer, counter, taken, grad_norm, skipped)

    def event(self, kind: EventKind, /, step: int | None = None, **data: object) -> None:
        """Take an event of the library's own."""
        if self._writer is not None and self.is_active:
            self._writer.own_event(kind, step=self.step if step is None else step, **data)

    # What the loop reports.

    def users_event(self, kind: str, step: int | None, data: Mapping[str, object]) -> None:
        """Take an event of the next step, unless another is named."""
        if self._writer is not None and self.is_active:
            self._writer.event(kind, step=self.step if step is None else step, **data)

    def log(self, values: Mapping[str, object]) -> None:
        """Take scalars of the last finished step."""
        if self._writer is None or not self.is_active:
            return
        self._writer.scalars(max(self.step - 1, 0), values)
        for unstepped in self._unstepped:
            self.guarded(unstepped.logged)

    # The end.

    def flush(self) -> bool:
        """Wait until all of it is on the disk; see `RunWriter.flush`."""
        return self._writer is not None and self.is_active and self._writer.flush()

    def close(self) -> bool:
        """Detach and wait for the disk; whether all is written and the directory released."""
        if self._writer is None or os.getpid() != self._pid:
            return False
        self._end()
        sweep()  # what could not be taken off within a step
        closed = self._writer.close()
        if left := self._writer.skipped:
            reasons = [f"{name!r} ({why})" for name, why in left.items()]
            quiet, self._quiet = self._quiet, True  # once
            notify(
                f"{self._writer.directory}: not all values of these were recorded, each with its "
                f"first reason: {listed(reasons)}",
                quiet=quiet,
            )
        return closed and self._writer.failure is None

    def __del__(self) -> None:
        # The collector may come in the middle of anything: of a forward pass, of a walk through
        # a table of hooks. What is done here changes no table and waits for nothing.
        if self.is_active and self._writer is not None and not sys.is_finalizing():
            with contextlib.suppress(Exception):  # at exit, what it needs may be gone
                self._record_end()
                for each in (*self._unstepped, *self.stations):
                    each.drop()
                self._writer.end()

    def _stop(self, error: Exception) -> None:
        why, step = described(error), self.step
        where = f"into {self._writer.directory} " if self._writer is not None else ""
        self.event(EventKind.STOPPED, step=step, why=why)
        self._end()
        warn_recording_stopped(stopped(f"{where}at step {step}", why), stacklevel=3)

    def _end(self) -> None:
        """Detach and let the writer end, without waiting; may be repeated."""
        if self.is_active and self._writer is not None:
            self._record_end()
            self._detach()
            self._writer.end()

    def _record_end(self) -> None:
        own = {id(station.optimizer): station.step for station in self.stations}
        steps = [own.get(id(optimizer), 0) for optimizer in self._optimizers]
        self.event(EventKind.CLOSED, steps=steps)
        self._step = self.step
        self._active = False

    def _detach(self) -> None:
        """Take all hooks off and give the memory of the stations back."""
        for each in (*self._unstepped, *self.stations):
            with contextlib.suppress(Exception):  # one that has failed may fail in this as well
                each.detach()
        self.stations = self._unstepped = ()
