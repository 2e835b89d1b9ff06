"""The monitor: attaches to optimizers, measures chosen steps and records them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import torch

from spherical_motion.binding import Role, as_groups, as_optimizers, refuse_second
from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument
from spherical_motion.monitor.audit import NO_INPUTS, fed_or_why, named_norms, unstepped_of
from spherical_motion.monitor.correlation import correlation_meters
from spherical_motion.monitor.going_on import (
    next_steps,
    notify_lost_products,
    notify_no_cells,
    run_to_resume,
)
from spherical_motion.monitor.provenance import run_facts
from spherical_motion.monitor.run.announcing import announcement, chosen_or_new
from spherical_motion.monitor.run.recording import Recording
from spherical_motion.monitor.sampling import Sampling
from spherical_motion.monitor.station import Station
from spherical_motion.monitor.targets import find_targets
from spherical_motion.notices import announce
from spherical_motion.records import RunWriter
from spherical_motion.vocabulary import Schedule
from spherical_motion.vocabulary.events import EventKind
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS
from spherical_motion.vocabulary.groups import InvariantGroup


class Monitor:
    """Measures the motion of groups of weights at each step of one or several optimizers.

    The monitor uses the step hooks of `torch.optim`, so the training loop stays as it is. Weights
    are bit-identical with and without a monitor. If the monitor fails (a full disk, a bad value),
    recording stops with one warning and training goes on.

    Recording goes on as long as the optimizers live, also if nothing holds the monitor, and ends
    with the last of them at the latest. A copy of a monitor, as of a module that holds one, is
    closed.

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
            closed (killed: one past the last step of which anything is recorded). After going
            back to a checkpoint pass its step: what was recorded from there on is given up.
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
        patience: seconds that `flush` and `close` wait at most for a disk that does not answer.
        quiet: do not print the line that says what is watched.

    Attributes:
        is_stored: whether the last `flush` or `close` found everything recorded before it on the
            disk; False before the first of them.

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
        patience: float = 60.0,
        quiet: bool = False,
    ) -> None:
        self.is_stored = False
        sampling = Sampling.of(every, burst, cells_every)
        self.optimizers = as_optimizers(optimizers, "Monitor")
        self.groups = tuple(as_groups(groups, "Monitor"))
        for optimizer in self.optimizers:
            refuse_second(optimizer, Role.WATCH, "Monitor")
        products = whole("Monitor", "products", products, least=len(FIELDS), most=len(PRODUCTS))
        planned = 100_000 if steps is None else whole("Monitor", "steps", steps, least=1)
        if first_step is not None:
            first_step = whole("Monitor", "first_step", first_step)
        _require_schedule(plan)
        targets = find_targets(model, self.optimizers, self.groups)
        fed = fed_or_why(model, example_inputs) if audit else ""
        norms = named_norms(model, fed, targets)
        info = run_facts(self.groups, self.optimizers, targets, sampling, products, plan, norms)
        self._recording = sink = Recording(quiet=quiet)
        meters = correlation_meters(correlation_every, info, self.optimizers, targets, sink)
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
                sink.guarded,
                sink,
                correlation=meters.get(number),
                audited=audited,
            )
            for number, optimizer in enumerate(self.optimizers)
            if number in hooked
        }
        self.directory = chosen_or_new(directory, resume)
        before = run_to_resume(self.directory).products if resume else 0
        starts = next_steps(self.directory, len(self.optimizers)) if resume else None
        writer = RunWriter(
            self.directory, info, resume=resume, first_step=first_step, patience=patience
        )
        if starts is None or first_step is not None:
            starts = [writer.next_step] * len(self.optimizers)
        own = list(stations.values())
        unstepped = [
            unstepped_of(s.optimizer, s.parameters, lambda s=s: s.step, sink, sink.guarded)
            for s in (own if audit else ())
        ]
        sink.begin(writer, self.optimizers, own, [starts[n] for n in stations], unstepped)
        if isinstance(fed, str) and fed not in ("", NO_INPUTS):
            sink.event(EventKind.NORMS_UNKNOWN, why=fed)
        text = announcement(model, info, self.directory, planned, own, writer.goes_on)
        announce(text, quiet=quiet)
        notify_lost_products(before, products, quiet=quiet)
        notify_no_cells(cells_every, self.groups, quiet=quiet)

    @property
    def step(self) -> int:
        """Number of the next step (of the first optimizer that owns a group)."""
        return self._recording.step

    def log(self, **scalars: object) -> None:
        """Record named numbers with the last finished step: loss, accuracy, anything.

        Values may be numbers or tensors of one entry, on any device and with a graph: they are
        detached, and read on another thread where reading would make training wait. Other values
        are left out, and an event says so.
        """
        self._recording.log(scalars)

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        """Record that something happened: `kind` is a word, `data` anything JSON can hold.

        A kind that the library itself records (`EventKind`) gets a trailing underscore, as data
        named time, kind, step or crc do; those of steering tools, "rescaled" and
        "rescaling_limited", stay as they are.
        """
        self._recording.users_event(kind, step, data)

    def flush(self) -> None:
        """Wait until everything measured so far is on disk, but at most `patience` seconds.

        `is_stored` says whether it is there. Like `close` it may be called in a hook.
        """
        self.is_stored = self._recording.flush()

    def close(self) -> None:
        """Detach, write what is left and release the directory; may be repeated.

        Waits at most `patience` seconds for a disk that does not answer, and says what it waits
        for; `is_stored` says whether all is written and the directory released. If it only takes
        longer, the rest is written while the process lives. A notice names what could not be
        recorded.
        """
        self.is_stored = self._recording.close()

    @property
    def _stations(self) -> Sequence[Station]:
        """What measures, one for each optimizer that steps something watched; none once closed."""
        return self._recording.stations

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
        state = f"at step {self.step}" if self._recording.is_active else "closed"
        return f"<Monitor of {len(self.groups)} groups, {state}, recording to {self.directory}>"

    def __reduce__(self) -> tuple[Callable[..., Monitor], tuple[object, ...]]:
        return _closed_copy, (self.directory, self.groups, self.step)


def _closed_copy(directory: Path, groups: tuple[InvariantGroup, ...], step: int) -> Monitor:
    """What a copied or unpickled monitor is: it watches nothing, and its methods do nothing."""
    monitor = Monitor.__new__(Monitor)
    monitor.directory, monitor.groups, monitor.optimizers = directory, groups, []
    monitor.is_stored = False
    monitor._recording = Recording(step=step)
    return monitor


def _require_schedule(plan: object) -> None:
    if plan is not None and not isinstance(plan, Schedule):
        raise InvalidArgument(
            f"Monitor(plan=...) must be a Schedule or None, got {plan!r}. A plan of torch's "
            "schedulers is Schedule(hp, lr=[...]) with one rate a step."
        )
