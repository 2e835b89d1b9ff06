"""Write a run: input is copied on the training thread and stored on another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from numpy.typing import ArrayLike

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import described, shown, stopped, warn_recording_stopped
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.events import sized_event, users_kind
from spherical_motion.records.files.folders import local_path
from spherical_motion.records.info import RunInfo
from spherical_motion.records.writing.blocks import Copier
from spherical_motion.records.writing.pending import Block, step_number
from spherical_motion.records.writing.scalars import copy_scalars
from spherical_motion.records.writing.store import RunStore
from spherical_motion.records.writing.worker import Worker
from spherical_motion.vocabulary import EventKind


class RunWriter:
    """Records into a run directory; training never waits for it or fails because of it.

    Its methods copy their input and return; a daemon thread stores it every `flush_seconds`, or
    as soon as `flush_bytes` have gathered. After `flush` returns, all earlier input survives a
    kill or a power cut. If the disk fails or falls behind by a gigabyte, recording stops: the
    next call warns once with `RecordingStopped` on the caller's thread, or prints where warnings
    are errors, and all further calls do nothing. In a forked child every method does nothing.
    A writer that is dropped without `close` stores what it has and releases the directory.

    Args:
        directory: a new or empty one, or with `resume` one that holds a run; local, since only
            reading takes URLs.
        info: the facts of the run.
        resume: append to the run in `directory`. The groups and the optimizer must be the same
            as at its start; learning rate, weight decay, momentum and β2 may differ, and so may
            the division into param groups and the number of products. A run of an older version
            is brought to this one.
        first_step: with `resume`, the step to continue from, after returning to a checkpoint.
            What was recorded from there on before is not read any more.
        flush_seconds: how much time a kill may cost; less in the beginning, since the pauses
            grow from one second.
        flush_bytes: memory that rows may take before they are stored early.
        patience: seconds that `flush` and `close` wait at most for a disk that does not answer.

    Attributes:
        next_step: 0; on resume `first_step`, or where the run was closed, or one past the last step
            of which anything was recorded, rows, scalars or other.
        goes_on: on resume, where the run goes on and what is set aside, in words; else "".

    Raises:
        RunExists, RunInUse, NotARun, RunDirectoryError: the directory cannot be used.

    >>> import tempfile
    >>> from spherical_motion.vocabulary import InvariantGroup, Slice
    >>> s = Slice("conv.weight", axis=0, start=0, stop=64)
    >>> group = InvariantGroup("conv", "scale", (s,), cells=((s,),), numel=576)
    >>> sgd = {"class": "SGD", "optimizer": 0, "lr": 0.1}
    >>> info = RunInfo(groups=(group,), param_groups=(sgd,), slice_param_group=(0,))
    >>> directory = tempfile.TemporaryDirectory()
    >>> with RunWriter(directory.name, info) as writer:
    ...     writer.settings(0, 0, (0.1, 0, 0, None))
    ...     writer.rows(0, [[4, 0, 1, 0, 9, -3]])
    >>> with RunWriter(directory.name, info, resume=True) as writer:
    ...     writer.next_step
    1
    >>> directory.cleanup()
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        info: RunInfo,
        *,
        resume: bool = False,
        first_step: int | None = None,
        flush_seconds: float = 10.0,
        flush_bytes: int = 64 << 20,
        patience: float = 60.0,
    ) -> None:
        if not flush_seconds > 0 or flush_bytes < 1:
            raise InvalidArgument(
                "RunWriter must have flush_seconds > 0 and flush_bytes >= 1, got "
                f"{flush_seconds} and {flush_bytes}."
            )
        if not patience >= 0:
            raise InvalidArgument(f"patience must be seconds, 0 or more, got {patience}.")
        self.directory = local_path("RunWriter", directory)
        self.info = info
        self._copier = Copier(info)
        self._warned = False
        store = RunStore(RunDirectory(self.directory), info, resume=resume, first_step=first_step)
        self.next_step = store.next_step
        self.goes_on = "" if store.goes_on is None else str(store.goes_on)
        self._worker = Worker(
            store,
            self.directory,
            flush_seconds=flush_seconds,
            flush_bytes=flush_bytes,
            patience=patience,
        )

    @property
    def skipped(self) -> dict[str, str]:
        """What could not be recorded: names of scalars and kinds of events, and for each why."""
        return self._worker.skipped

    @property
    def failure(self) -> str | None:
        """Why recording has stopped; None while it goes on."""
        return self._worker.failure

    def rows(self, step: int, gram: ArrayLike, slices: ArrayLike | None = None) -> None:
        """Record one step. Copies its input; never raises, never waits for the disk.

        Args:
            step: the optimizer step, counted from 0.
            gram: shape (rows, `info.products`), in the order of `vocabulary.gram.PRODUCTS`.
            slices: shape (rows,), their numbers; left out, all of `info.slices` in order.
        """
        self._record("rows", step, lambda: self._copier.rows(step, gram, slices))

    def settings(self, step: int, param_group: int, values: Sequence[float | None]) -> None:
        """Record the settings of a param group that hold from `step` on; like `rows` otherwise.

        To be called at the first step, also after resuming, and at each step at which they
        change, in the order of the steps and before the rows of that step. The later record of a
        step counts. A record undoes those of later steps: they belong to a branch of the run that
        was given up.

        Args:
            step: the optimizer step.
            param_group: index in `info.param_groups`.
            values: lr, weight decay, momentum (β1) and β2, None or NaN for none.
        """
        self._record("settings", step, lambda: self._copier.settings(step, param_group, values))

    def cells(self, step: int, group: int, gram: ArrayLike) -> None:
        """Record the cells of one group at one step; copies and never raises, like `rows`.

        Args:
            step: the optimizer step.
            group: its number in `info.groups`.
            gram: shape (cells, 6), in the order of the group's `cells`.
        """
        self._record("cells", step, lambda: self._copier.cells(step, group, gram))

    def correlation(self, step: int, group: int, rho: ArrayLike, update_sq: float) -> None:
        """Record how the updates of a group resemble each other; like `rows` otherwise.

        Args:
            step: the first step of the burst from which they come.
            group: its number in `info.groups`.
            rho: shape (lags,), the autocorrelation at lags 0, 1, ...
            update_sq: mean |u|² of the updates.
        """
        copy = self._copier.correlation
        self._record("correlation", step, lambda: copy(step, group, rho, update_sq))

    def audit(self, step: int, parameters: ArrayLike, sums: ArrayLike) -> None:
        """Record what an audited step has of some parameters; like `rows` otherwise.

        A record undoes those of the same parameter at later steps, like one of `settings`.

        Args:
            step: the optimizer step.
            parameters: shape (rows,), their numbers in `info.parameters`.
            sums: shape (rows, columns), in the order of `AUDIT_SUMS`.
        """
        self._record("audit", step, lambda: self._copier.audit(step, parameters, sums))

    def audit_step(
        self,
        step: int,
        optimizer: int,
        counter: float,
        taken: float,
        grad_norm: float,
        skipped: str,
    ) -> None:
        """Record an audited step of an optimizer; like `audit` otherwise.

        Args:
            step: its step.
            optimizer: its number in the run.
            counter: its own count of its steps, after this one; NaN if it has none.
            taken: steps that it was seen to take since its state was empty; NaN if it never was.
            grad_norm: the norm of all gradients of all optimizers, before the step.
            skipped: why the step was not replayed, "" if it was.
        """
        facts, copy = (counter, taken, grad_norm), self._copier.audit_step
        self._record("audit_step", step, lambda: copy(step, optimizer, facts, skipped))

    def scalars(self, step: int, values: Mapping[str, object]) -> None:
        """Record named numbers, as they are now; never raises.

        Tensors on another device are copied, and the writer's thread reads them later, as it does
        with other objects that have an `item()`. Values that are not numbers are left out, with
        one "skipped" event for each name; see `skipped`.
        """
        if not self._is_recording():
            return
        try:
            at, (found, left) = step_number(step), copy_scalars(values)
        except Exception as error:  # no number of a step, no mapping
            self._worker.skip(None, "scalars", described(error))
            return
        for name, reason in left.items():
            self._worker.skip(at, name, reason)
        if found:
            self._worker.put(lambda pending: pending.add_scalars(at, found))

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        """Record an event that happens now; never raises.

        `data` are copied and stored as JSON, NaN as null, unknown types as their text. An event
        that JSON cannot hold (text that is no Unicode, data in themselves, more than 16 million
        characters) is left out, with one "skipped" event for each kind; see `skipped`. Data named
        time, kind, step or crc get a trailing underscore, and so does a kind that the library
        itself records (`EventKind`, all but those of steering tools: "rescaled" and
        "rescaling_limited").
        """
        if self._is_recording():
            self._record_event(users_kind, kind, step, data)

    def own_event(self, kind: EventKind, /, step: int | None = None, **data: object) -> None:
        """Record an event of the library's own, with the data that `EventKind` names."""
        if self._is_recording():
            self._record_event(str, kind, step, data)

    def _record_event(
        self,
        named: Callable[[object], str],
        kind: str,
        step: int | None,
        data: Mapping[str, object],
    ) -> None:
        try:
            event, characters = sized_event(named(kind), step, data)
        except Exception as error:  # unknown classes may raise anything
            self._worker.skip(step, shown(kind), described(error))
            return
        self._worker.put(lambda pending: pending.add_event(event, characters))

    def flush(self) -> bool:
        """Wait until all input so far is on the disk, but at most `patience` seconds.

        Returns:
            Whether it is there. If not, recording has stopped, or a notice has said what is not
            stored yet.
        """
        if not self._is_recording():
            return False
        stored = self._worker.flush()
        self._warn_if_stopped()
        return stored

    def end(self) -> None:
        """Take nothing more; what is left is stored and the directory released, later on.

        Does not wait. `close` waits for it.
        """
        self._worker.end()

    def close(self) -> bool:
        """Store all pending input and release the directory, once; it also runs at exit.

        Waits at most `patience` seconds. A wait of more than a few seconds is announced, with what
        would be lost if the process were killed.

        Returns:
            Whether the directory is released. If not, the writer goes on while the process lives.
        """
        ended = self._worker.close()
        self._warn_if_stopped()
        return ended

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        worker: Worker | None = getattr(self, "_worker", None)  # none if `__init__` has raised
        if worker is not None:
            worker.end()

    def _is_recording(self) -> bool:
        """Whether input is taken. Says at once, on the caller's thread, if it has stopped."""
        if self._worker.is_open:
            return True
        self._warn_if_stopped(stacklevel=4)
        return False

    def _record(self, what: str, step: object, copy: Callable[[], Block]) -> None:
        if self._worker.is_open:
            try:
                block = copy()
            except Exception as error:  # a mistake in measuring must not end training
                self._worker.stop(f"{what}(step={shown(step)}) was given {shown(error)}")
            else:
                self._worker.put(lambda pending: pending.add(block))
        self._warn_if_stopped(stacklevel=4)

    def _warn_if_stopped(self, stacklevel: int = 3) -> None:
        """Warn once, on the caller's thread, so that the caller's warning filters apply."""
        failure = self._worker.failure
        if failure is None or self._warned or not self._worker.is_own:
            return
        self._warned = True
        warn_recording_stopped(
            stopped(
                f"into {self.directory}", failure, "Fix the cause and resume, or record elsewhere."
            ),
            stacklevel=stacklevel,
        )
