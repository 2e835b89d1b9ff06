"""The monitor: attaches to optimizers, measures chosen steps, records them, harms nothing."""

from __future__ import annotations

import datetime
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument, RecordingStopped
from spherical_motion.monitor.cells import CellMeter
from spherical_motion.monitor.ownership import Ownership, find_owners, plain_settings
from spherical_motion.monitor.provenance import command_line, commit_of_caller, versions
from spherical_motion.monitor.station import Sampling, Station, refuse_second
from spherical_motion.records import RunInfo, RunWriter, steps_at_close
from spherical_motion.records.schema import BYTES_PER_ROW
from spherical_motion.vocabulary.groups import InvariantGroup

__all__ = ["Monitor"]


class Monitor:
    """Measures the motion of invariant groups at each step of one or several optimizers.

    Works through `torch.optim`'s own step hooks, so the training loop stays as it is. Training
    with and without a monitor gives bit-identical weights, and no failure of the monitor
    (a full disk, a bad value) reaches the loop: recording stops with one warning.

    Args:
        model: names the parameters.
        optimizers: the optimizer, or several; each group must belong to one of them.
        groups: what to measure, from `find_groups`.
        directory: where to record; left out, `runs/<date and time>`.
        every: measure from one step in so many.
        burst: so many consecutive steps each time; left out, 2 if `every > 1` (the law of motion
            links neighbours), else 1.
        cells_every: also record the six products of every certified cell (filter, head) at one
            step in so many; left out, never.
        resume: append to the run that `directory` holds already.
        first_step: number of the next step; left out, 0 or, when resuming, where the run was
            closed (killed: one past the last recorded step). After going back to a checkpoint
            pass its step: the later record wins.
        steps: planned length of the run, to foretell its size on disk.
        quiet: do not print the line that says what is watched.

    Raises:
        InvalidArgument: see the message; nothing was attached.
        AlreadyAttached: one of the optimizers has a monitor.
        RunExists, RunInUse, NotARun, RunDirectoryError: the directory cannot be used.

    A step here is one call of `optimizer.step()` that took effect: with gradient accumulation one
    per accumulated batch; a call that a GradScaler skips is none. In a forked process the monitor
    does nothing.

    >>> import tempfile
    >>> from spherical_motion.invariance import find_groups
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    >>> groups = find_groups(model, torch.randn(16, 4))
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with Monitor(model, optimizer, groups, directory, quiet=True) as monitor:
    ...         model(torch.randn(16, 4)).square().sum().backward()
    ...         optimizer.step()
    ...         monitor.log(loss=1.0)
    ...     monitor.step
    1
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        groups: Sequence[InvariantGroup],
        directory: str | os.PathLike[str] | None = None,
        *,
        every: int = 1,
        burst: int | None = None,
        cells_every: int | None = None,
        resume: bool = False,
        first_step: int | None = None,
        steps: int | None = None,
        quiet: bool = False,
    ) -> None:
        self._closed = True  # until everything below has succeeded
        every = _positive("every", every)
        burst = min(2, every) if burst is None else _positive("burst", burst)
        if burst > every:
            raise InvalidArgument(
                f"Monitor(burst=...) must be at most every={every}, got {burst}. "
                "Use every=1 to measure each step."
            )
        if cells_every is not None:
            _positive("cells_every", cells_every)
        self.optimizers = _as_list(optimizers)
        self.groups = tuple(groups)
        if not self.groups:
            raise InvalidArgument(
                "Monitor(groups=...) expects at least one group, got none. Find them with "
                "spherical_motion.find_groups(model, example_inputs)."
            )
        for optimizer in self.optimizers:
            refuse_second(optimizer)
        planned = 100_000 if steps is None else _positive("steps", steps)
        if first_step is not None:
            first_step = _whole("first_step", first_step, least=0)
        owners = find_owners(model, self.optimizers, self.groups)
        self.directory = Path(directory) if directory is not None else _timestamped()
        info = self._facts(owners, every, burst)
        sampling = Sampling(every, burst, cells_every)
        # Memory is taken and code compiled here; hooks come last, when nothing can fail any more.
        stations = [self._station(i, info, owners, sampling) for i in range(len(self.optimizers))]
        starts = self._starts(resume, first_step)
        self._writer = RunWriter(self.directory, info, resume=resume, first_step=first_step)
        self._pid = os.getpid()
        self._stations = [station for station in stations if station is not None]
        for index, station in enumerate(stations):
            if station is not None:
                next_step = self._writer.next_step if starts is None else starts[index]
                station.attach(next_step, str(self.directory))
        self._closed = False
        if not quiet:
            print(self._greeting(model, info, planned), file=sys.stderr)

    @property
    def step(self) -> int:
        """Number of the next step (of the first optimizer that owns a group)."""
        return self._stations[0].step

    def log(self, **scalars: Any) -> None:
        """Record named numbers with the last finished step: loss, accuracy, anything.

        Values may be numbers or tensors of one entry, on any device and with a graph: they are
        detached, and read off the training thread where reading would make it wait. What is no
        number is left out, and an event says so.
        """
        if self._active():
            values = {name: _light(value) for name, value in scalars.items()}
            self._writer.scalars(max(self.step - 1, 0), values)

    def event(self, kind: str, /, step: int | None = None, **data: Any) -> None:
        """Record that something happened: `kind` is a word, `data` anything JSON can hold."""
        if self._active():
            self._writer.event(kind, step=self.step if step is None else step, **data)

    def rows(
        self, step: int, gram: NDArray[Any], settings: NDArray[Any], slices: NDArray[Any]
    ) -> None:
        """Take a station's sums (called by the hooks, not by users)."""
        self._writer.rows(step, gram, settings, slices)

    def cells(self, step: int, group: int, gram: NDArray[Any]) -> None:
        """Take the sums of a group's cells (called by the hooks, not by users)."""
        self._writer.cells(step, group, gram)

    def flush(self) -> None:
        """Wait until everything measured so far is on disk."""
        if self._active():
            self._writer.flush()

    def close(self) -> None:
        """Detach, write what is left, and let go of the directory. Repeating it does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        for station in self._stations:
            station.detach()
        steps = {id(station.optimizer): station.step for station in self._stations}
        self._writer.event(
            "closed", step=self.step, steps=[steps.get(id(o), 0) for o in self.optimizers]
        )
        self._writer.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"at step {self.step}"
        return f"<Monitor of {len(self.groups)} groups, {state}, recording to {self.directory}>"

    def _active(self) -> bool:
        return not self._closed and os.getpid() == self._pid

    def _guarded(self, hook: Callable[[], None]) -> None:
        """Run a hook's body; whatever goes wrong in it must not reach the training loop."""
        if not self._active():
            return
        try:
            hook()
        except Exception as error:  # training is never harmed: measuring stops, with one warning
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._writer.event("stopped", step=self.step, why=f"{type(error).__name__}: {error}")
        text = (
            f"spherical-motion stopped recording to {self.directory} at step {self.step}: "
            f"{type(error).__name__}: {error} Training goes on; what was recorded is kept."
        )
        self.close()
        try:
            warnings.warn(text, RecordingStopped, stacklevel=2)
        except RecordingStopped:  # warnings are errors here, and an error would stop training
            print(text, file=sys.stderr)

    def _facts(self, owners: dict[str, Ownership], every: int, burst: int) -> RunInfo:
        before = np.cumsum([0, *(len(o.param_groups) for o in self.optimizers)])
        slices = dict.fromkeys(s for group in self.groups for s in group.slices)
        owned = [owners[s.parameter] for s in slices]
        return RunInfo(
            groups=self.groups,
            param_groups=tuple(plain_settings(self.optimizers)),
            slice_param_group=tuple(int(before[o.optimizer]) + o.param_group for o in owned),
            every=every,
            burst=burst,
            versions=versions(),
            command=command_line(),
            commit=commit_of_caller(),
        )

    def _starts(self, resume: bool, first_step: int | None) -> list[int] | None:
        """Where each optimizer goes on, if that is known: as it was when the run was closed."""
        if not resume or first_step is not None:
            return None
        closed = steps_at_close(self.directory)
        return closed if closed is not None and len(closed) == len(self.optimizers) else None

    def _station(
        self,
        index: int,
        info: RunInfo,
        owners: dict[str, Ownership],
        sampling: Sampling,
    ) -> Station | None:
        mine = [i for i, s in enumerate(info.slices) if owners[s.parameter].optimizer == index]
        if not mine:
            return None
        names = list(dict.fromkeys(info.slices[i].parameter for i in mine))
        place = {name: i for i, name in enumerate(names)}
        members = [info.slices[i] for i in mine]
        parameters = [owners[name].parameter for name in names]
        groups = {i: group for i, group in enumerate(self.groups) if group.parameters[0] in place}
        return Station(
            self.optimizers[index],
            parameters,
            np.array([(place[s.parameter], s.axis, s.start, s.stop) for s in members]),
            np.array(mine, dtype=np.int32),
            np.array([owners[s.parameter].param_group for s in members]),
            CellMeter(parameters, place, groups if sampling.cells_every else {}),
            number=index,
            sampling=sampling,
            guarded=self._guarded,
            sink=self,
        )

    def _greeting(self, model: torch.nn.Module, info: RunInfo, planned: int) -> str:
        share = sum(group.numel for group in self.groups) / sum(
            parameter.numel() for parameter in model.parameters()
        )
        size = planned * info.burst / info.every * len(info.slices) * BYTES_PER_ROW
        often = "every step" if info.every == 1 else f"{info.burst} of every {info.every} steps"
        memory = sum(station.nbytes for station in self._stations)
        return (
            f"spherical-motion: watching {len(self.groups)} groups ({min(share, 1.0):.0%} of all "
            f"parameters) at {often} → {self.directory} (about {_bytes(size)} for {planned:,} "
            f"steps; {_bytes(memory)} of memory)"
        )


def _as_list(
    optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
) -> list[torch.optim.Optimizer]:
    found: list[Any] = [optimizers]
    if isinstance(optimizers, Sequence) and not isinstance(optimizers, str):
        found = list(optimizers)
    for optimizer in found:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InvalidArgument(
                "Monitor(optimizers=...) expects a torch.optim.Optimizer or several, got "
                f"{type(optimizer).__name__}. A scheduler or wrapper holds it as `.optimizer`."
            )
    if not found:
        raise InvalidArgument("Monitor(optimizers=...) expects at least one optimizer, got none.")
    return found


def _positive(name: str, value: Any) -> int:
    return _whole(name, value, least=1)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        remedy = " Use every=1 to measure each step." if name == "every" else ""
        raise InvalidArgument(
            f"Monitor({name}=...) must be an int >= {least}, got {value!r}.{remedy}"
        )
    return int(value)


def _timestamped() -> Path:
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path, again = Path("runs") / now, 1
    while path.exists():
        again += 1
        path = Path("runs") / f"{now}_{again}"
    return path


def _light(value: Any) -> Any:
    """A number where that costs nothing; a detached copy where reading would wait for a device."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if value.numel() == 1 and value.is_cpu:
        return value.item()
    return value.clone()


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
