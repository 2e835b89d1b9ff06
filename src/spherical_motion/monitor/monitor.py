"""The monitor: attaches to optimizers, measures chosen steps and records them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.parameter import is_lazy

from spherical_motion.binding import NamedParameters, Role, as_groups, as_optimizers, refuse_second
from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument
from spherical_motion.invariance import covered_entries
from spherical_motion.monitor.audit import NO_INPUTS, fed_or_why, named_norms, unstepped_of
from spherical_motion.monitor.correlation import correlation_meters
from spherical_motion.monitor.going_on import notify_lost_products, notify_no_cells
from spherical_motion.monitor.provenance import run_facts
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.sinks import Settings
from spherical_motion.monitor.station import Station
from spherical_motion.monitor.targets import find_targets
from spherical_motion.notices import announce, warn_recording_stopped
from spherical_motion.records import (
    RunInfo,
    RunWriter,
    bytes_per_row,
    read_info,
    steps_at_close,
)
from spherical_motion.records.files.folders import make_new_folder
from spherical_motion.vocabulary import Schedule
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS
from spherical_motion.vocabulary.groups import InvariantGroup


class Monitor:
    """Measures the motion of groups of weights at each step of one or several optimizers.

    The monitor uses the step hooks of `torch.optim`, so the training loop stays as it is. Weights
    are bit-identical with and without a monitor. If the monitor fails (a full disk, a bad value),
    recording stops with one warning and training goes on.

    Args:
        model: names the parameters.
        optimizers: the optimizer, or several; each group must belong to one of them.
        groups: what to measure, from `find_groups` or `all_groups`.
        directory: where to record; left out, `runs/<date and time>`.
        every: period of the measurements in steps.
        burst: number of consecutive steps measured each time; left out, 2 if `every > 1` (the
            law of motion links neighbours), else 1.
        cells_every: period in steps at which the six products of every certified cell (filter,
            head) are recorded too; left out, never.
        correlation_every: period in steps at which a burst begins that measures how one group's
            updates are correlated in time, from which the angle of Muon and of other optimizers
            with decoupled decay follows; each burst takes the next group. At least the length of a
            burst, 15/(1 - momentum) steps. Takes up to 256 MB. Left out, never.
        products: how many products of a step to record. 7: the six and wp = <w, Px>, the pull of
            gradient and decay in the optimizer's metric, read from its state after the step. 6: no
            wp. 8: also ws, the effect of a metric that changes, which needs copies of the
            optimizer's state (twice the memory of the weights).
        resume: append to the run that `directory` holds already.
        first_step: number of the next step; left out, 0 or, when resuming, where the run was
            closed (killed: one past the last recorded step). After going back to a checkpoint
            pass its step: the later record wins.
        steps: planned length of the run, from which the printed size on disk follows.
        audit: replay the first 20 steps, 3 after each change of settings that begins a stage, and
            pairs at 50, 100, 200, 500 and every 1,000 in float64 by the optimizer's own rule, and
            record how the real steps differ. Takes one more copy of the weights and one of the
            gradients in these steps. False leaves out all of it, also the notice of weights that
            another optimizer steps.
        example_inputs: what the model is called with, see `find_groups`. With them an audit also
            measures how much of ε is in the norm layers that the groups feed; one forward pass
            shows which these are.
        plan: the `Schedule` that was planned, which an audit holds against the rates really used.
        quiet: do not print the line that says what is watched.

    Raises:
        InvalidArgument: see the message; nothing was attached.
        AlreadyAttached: one of the optimizers has a monitor.
        RunExists, RunInUse, NotARun, RunDirectoryError: the directory cannot be used.

    A step is one call of `optimizer.step()` that changes weights: with gradient accumulation one
    per accumulated batch; a call that a GradScaler skips does not count. In a forked process the
    monitor does nothing.

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
        correlation_every: int | None = None,
        products: int = 7,
        resume: bool = False,
        first_step: int | None = None,
        steps: int | None = None,
        audit: bool = True,
        example_inputs: object = None,
        plan: Schedule | None = None,
        quiet: bool = False,
    ) -> None:
        self._closed = True  # until everything below has succeeded
        sampling = Sampling.of(every, burst, cells_every)
        self.optimizers = as_optimizers(optimizers, "Monitor")
        self.groups = tuple(as_groups(groups, "Monitor"))
        for optimizer in self.optimizers:
            refuse_second(optimizer, Role.WATCH, "Monitor")
        products = whole("Monitor", "products", products, least=len(FIELDS), most=len(PRODUCTS))
        planned = 100_000 if steps is None else whole("Monitor", "steps", steps, least=1)
        if first_step is not None:
            first_step = whole("Monitor", "first_step", first_step)
        if plan is not None and not isinstance(plan, Schedule):
            raise InvalidArgument(
                f"Monitor(plan=...) must be a Schedule or None, got {plan!r}. A plan of torch's "
                "schedulers is Schedule(hp, lr=[...]) with one rate a step."
            )
        targets = find_targets(model, self.optimizers, self.groups)
        fed = fed_or_why(model, example_inputs) if audit else ""
        norms = named_norms(model, fed, targets)
        info = run_facts(self.groups, self.optimizers, targets, sampling, products, plan, norms)
        meters = correlation_meters(correlation_every, info, self.optimizers, targets, sink=self)
        # Stations allocate memory and compile code. Hooks come last, when nothing can fail.
        hooked = {target.optimizer for target in targets.values()}
        audited = (model, self.optimizers, fed) if audit else None
        stations = {
            number: Station(
                optimizer,
                number,
                info,
                targets,
                sampling,
                self._guarded,
                self,
                correlation=meters.get(number),
                audited=audited,
            )
            for number, optimizer in enumerate(self.optimizers)
            if number in hooked
        }
        self.directory = _chosen_or_new(directory, resume)
        starts = self._starts(resume, first_step)
        before = read_info(self.directory).products if resume else 0
        self._writer = RunWriter(self.directory, info, resume=resume, first_step=first_step)
        self._pid = os.getpid()
        self._stations = list(stations.values())
        self._unstepped = [
            unstepped_of(s.optimizer, s.parameters, lambda s=s: s.step, self, self._guarded)
            for s in (self._stations if audit else ())
        ]
        for number, station in stations.items():
            next_step = self._writer.next_step if starts is None else starts[number]
            station.attach(next_step, str(self.directory))
        for unstepped in self._unstepped:
            unstepped.attach()
        self._closed = False
        if isinstance(fed, str) and fed not in ("", NO_INPUTS):
            self.event(EventKind.NORMS_UNKNOWN, why=fed)
        text = _announcement(model, info, self.directory, planned, self._stations)
        announce(text, quiet=quiet)
        notify_lost_products(before, products, quiet=quiet)
        notify_no_cells(cells_every, self.groups, quiet=quiet)

    @property
    def step(self) -> int:
        """Number of the next step (of the first optimizer that owns a group)."""
        return self._stations[0].step

    def log(self, **scalars: object) -> None:
        """Record named numbers with the last finished step: loss, accuracy, anything.

        Values may be numbers or tensors of one entry, on any device and with a graph: they are
        detached, and read on another thread where reading would make training wait. Other values
        are left out, and an event says so.
        """
        if self._active():
            values = {name: _detached(value) for name, value in scalars.items()}
            self._writer.scalars(max(self.step - 1, 0), values)
            for unstepped in self._unstepped:
                self._guarded(unstepped.logged)

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        """Record that something happened: `kind` is a word, `data` anything JSON can hold."""
        if self._active():
            self._writer.event(kind, step=self.step if step is None else step, **data)

    def settings(self, step: int, param_group: int, values: Settings) -> None:
        """Take the settings that hold from a step on (called by the hooks, not by users)."""
        self._writer.settings(step, param_group, values)

    def rows(self, step: int, gram: NDArray[np.float64], slices: NDArray[np.int32] | None) -> None:
        """Take a station's sums, of all slices or of these (called by the hooks, not by users)."""
        self._writer.rows(step, gram, slices)

    def cells(self, step: int, group: int, gram: NDArray[np.float64]) -> None:
        """Take the sums of a group's cells (called by the hooks, not by users)."""
        self._writer.cells(step, group, gram)

    def correlation(
        self, step: int, group: int, rho: NDArray[np.float64], update_sq: float
    ) -> None:
        """Take the correlation of a group's updates (called by the hooks, not by users)."""
        self._writer.correlation(step, group, rho, update_sq)

    def audit(self, step: int, parameters: NDArray[np.int32], sums: NDArray[np.float64]) -> None:
        """Take the sums of an audited step (called by the hooks, not by users)."""
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
        """Take the facts of an audited step (called by the hooks, not by users)."""
        self._writer.audit_step(step, optimizer, counter, taken, grad_norm, skipped)

    def flush(self) -> None:
        """Wait until everything measured so far is on disk."""
        if self._active():
            self._writer.flush()

    def close(self) -> None:
        """Detach, write what is left and release the directory; may be repeated."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        for unstepped in self._unstepped:
            unstepped.detach()
        for station in self._stations:
            station.detach()
        steps = {id(station.optimizer): station.step for station in self._stations}
        self._writer.event(
            EventKind.CLOSED, step=self.step, steps=[steps.get(id(o), 0) for o in self.optimizers]
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
        """Run a hook's body; no exception in it may reach the training loop."""
        if not self._active():
            return
        try:
            hook()
        except Exception as error:  # measuring stops with one warning, and training goes on
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        why = f"{type(error).__name__}: {error}"
        self._writer.event(EventKind.STOPPED, step=self.step, why=why)
        text = (
            f"spherical-motion stopped recording to {self.directory} at step {self.step}: {why} "
            "Training goes on; what was recorded is kept."
        )
        self.close()
        warn_recording_stopped(text)

    def _starts(self, resume: bool, first_step: int | None) -> list[int] | None:
        """The next step of each optimizer when the run was closed; None if not known."""
        if not resume or first_step is not None:
            return None
        closed = steps_at_close(self.directory)
        return closed if closed is not None and len(closed) == len(self.optimizers) else None


def _chosen_or_new(directory: str | os.PathLike[str] | None, resume: bool) -> Path:
    """The directory that the user named, or a new one of its own that this makes."""
    if directory is not None or resume:
        return Path("runs" if directory is None else directory)
    return make_new_folder(Path("runs"))


def _detached(value: object) -> object:
    """A number if it can be read at once, else a detached copy, to be read later."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach()
    if value.numel() == 1 and value.is_cpu:
        return value.item()
    return value.clone()


def _announcement(
    model: torch.nn.Module, info: RunInfo, directory: Path, steps: int, stations: Sequence[Station]
) -> str:
    """How much of `model` is watched, how often, and the bytes on disk for `steps` steps."""
    named = NamedParameters(model)
    entries = sum(
        0 if is_lazy(parameter) else parameter.numel() for parameter in model.parameters()
    )
    share = covered_entries(info.slices, lambda name: named[name].shape or (1,)) / entries
    memory = sum(station.nbytes for station in stations)
    # A column of NaN takes no space.
    products = max(station.products for station in stations)
    size = steps * info.burst / info.every * len(info.slices) * bytes_per_row(products)
    often = "every step" if info.every == 1 else f"{info.burst} of every {info.every} steps"
    return (
        f"watching {_counted(info)} ({share:.0%} of all parameters) at {often} "
        f"→ {directory} (about {_bytes(size)} for {steps:,} steps; {_bytes(memory)} of memory)"
    )


def _counted(info: RunInfo) -> str:
    """How many groups there are, and how many of them are plain."""
    count, plain = len(info.groups), sum(group.kind == "plain" for group in info.groups)
    ending = "" if count == 1 else "s"
    if plain == count:
        return f"{count} plain group{ending}"
    return f"{count} group{ending}" + (f", {plain} of them plain" if plain else "")


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
