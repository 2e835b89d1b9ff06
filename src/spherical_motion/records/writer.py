"""Write a run: rows are taken on the training thread and stored on another."""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import warn_recording_stopped
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.events import make_event
from spherical_motion.records.info import RunInfo
from spherical_motion.records.pending import (
    SMALL_ITEM,
    AuditBlock,
    AuditStepRow,
    Block,
    CellBlock,
    CorrelationRow,
    Pending,
    RowBlock,
    SettingsRow,
    copied,
)
from spherical_motion.records.schema import AUDIT_SUMS, SETTINGS
from spherical_motion.records.storing.store import RunStore
from spherical_motion.vocabulary.gram import FIELDS

PENDING_LIMIT = 1 << 30
"""Bytes that may wait for the disk; more than this counts as a failure of the disk."""

FIRST_PAUSE = 1.0
"""Seconds until the first flush; each pause is twice the last, up to `flush_seconds`."""


class RunWriter:
    """Records into a run directory; training never waits for it or fails because of it.

    Its methods copy their input and return; a daemon thread stores it every `flush_seconds`, or
    as soon as `flush_bytes` have gathered. After `flush` returns, all earlier input survives a
    kill or a power cut. If the disk fails or falls behind by a gigabyte, recording stops: the
    next call warns once with `RecordingStopped` on the caller's thread, or prints where warnings
    are errors, and all further calls do nothing. In a forked child every method does nothing.

    Args:
        directory: a new or empty one, or with `resume` one that holds a run.
        info: the facts of the run.
        resume: append to the run in `directory`. The groups and the optimizer must be the same
            as at its start; learning rate, weight decay, momentum and β2 may differ, and so may
            the division into param groups and the number of products. A run of an older version
            is brought to this one.
        first_step: with `resume`, the step to continue from, after returning to a checkpoint.
        flush_seconds: how much time a kill may cost; less in the beginning, since the pauses
            grow from one second.
        flush_bytes: memory that rows may take before they are stored early.

    Attributes:
        next_step: 0; on resume `first_step`, or where the run was closed, or one past its last
            recorded step. What was recorded from there on before is not read any more.

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
    ) -> None:
        if not flush_seconds > 0 or flush_bytes < 1:
            raise InvalidArgument(
                "RunWriter must have flush_seconds > 0 and flush_bytes >= 1, got "
                f"{flush_seconds} and {flush_bytes}."
            )
        self.directory = Path(directory)
        self.info = info
        self._flush_seconds, self._flush_bytes = flush_seconds, flush_bytes
        self._pause = min(FIRST_PAUSE, flush_seconds)
        self._all_slices = np.arange(len(info.slices), dtype=np.int32)
        self._store = RunStore(
            RunDirectory(self.directory), info, resume=resume, first_step=first_step
        )
        self.next_step = self._store.next_step

        self._pid = os.getpid()
        # Reentrant: a signal handler may close the run while the interrupted thread holds it.
        self._changed = threading.Condition(threading.RLock())  # guards the fields below
        self._pending = Pending()
        self._flushes_asked = self._flushes_done = 0
        self._closing = self._ended = False
        self._failure: str | None = None
        self._warned = False

        self._thread = threading.Thread(target=self._work, name="run writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def rows(self, step: int, gram: ArrayLike, slices: ArrayLike | None = None) -> None:
        """Record one step. Copies its input; never raises, never waits for the disk.

        Args:
            step: the optimizer step, counted from 0.
            gram: shape (rows, `info.products`), in the order of `vocabulary.gram.PRODUCTS`.
            slices: shape (rows,), their numbers; left out, all of `info.slices` in order.
        """

        def copy() -> RowBlock:
            which = self._slices(slices)
            return RowBlock(
                int(step), copied("gram", gram, (len(which), self.info.products)), which
            )

        if self._is_recording():
            self._queue(f"rows(step={step})", copy)

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

        def copy() -> SettingsRow:
            known = len(self.info.param_groups)
            if not 0 <= param_group < known:
                raise InvalidArgument(f"param_group {param_group}; there are {known}")
            given = [math.nan if value is None else value for value in values]
            return SettingsRow(
                int(step), int(param_group), copied("values", given, (len(SETTINGS),))
            )

        if self._is_recording():
            self._queue(f"settings(step={step}, param_group={param_group})", copy)

    def cells(self, step: int, group: int, gram: ArrayLike) -> None:
        """Record the cells of one group at one step; copies and never raises, like `rows`.

        Args:
            step: the optimizer step.
            group: its number in `info.groups`.
            gram: shape (cells, 6), in the order of the group's `cells`.
        """

        def copy() -> CellBlock:
            cells = len(self.info.groups[group].cells)
            return CellBlock(int(step), int(group), copied("gram", gram, (cells, len(FIELDS))))

        if self._is_recording():
            self._queue(f"cells(step={step}, group={group})", copy)

    def correlation(self, step: int, group: int, rho: ArrayLike, update_sq: float) -> None:
        """Record how the updates of a group resemble each other; like `rows` otherwise.

        Args:
            step: the first step of the burst from which they come.
            group: its number in `info.groups`.
            rho: shape (lags,), the autocorrelation at lags 0, 1, ...
            update_sq: mean |u|² of the updates.
        """

        def copy() -> CorrelationRow:
            known = len(self.info.groups)
            if not 0 <= group < known:
                raise InvalidArgument(f"group {group}; there are {known}")
            lags = copied("rho", rho, (np.size(rho),))
            return CorrelationRow(int(step), int(group), lags, float(update_sq))

        if self._is_recording():
            self._queue(f"correlation(step={step}, group={group})", copy)

    def audit(self, step: int, parameters: ArrayLike, sums: ArrayLike) -> None:
        """Record what an audited step has of some parameters; like `rows` otherwise.

        A record undoes those of the same parameter at later steps, like one of `settings`.

        Args:
            step: the optimizer step.
            parameters: shape (rows,), their numbers in `info.parameters`.
            sums: shape (rows, columns), in the order of `AUDIT_SUMS`.
        """

        def copy() -> AuditBlock:
            which = _numbers("parameters", parameters, len(self.info.parameters))
            return AuditBlock(int(step), copied("sums", sums, (len(which), len(AUDIT_SUMS))), which)

        if self._is_recording():
            self._queue(f"audit(step={step})", copy)

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

        def copy() -> AuditStepRow:
            values = copied("values", (counter, taken, grad_norm), (3,))
            return AuditStepRow(int(step), int(optimizer), values, str(skipped))

        if self._is_recording():
            self._queue(f"audit_step(step={step}, optimizer={optimizer})", copy)

    def scalars(self, step: int, values: Mapping[str, object]) -> None:
        """Record named numbers; the writer's thread reads those with an `item()` later.

        Values that are not numbers are left out, with one "skipped" event for each name.
        """
        if self._is_recording():
            with self._changed:
                self._pending.scalars.append((int(step), dict(values)))
                self._add_size(SMALL_ITEM * len(values))

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        """Record an event that happens now. `data` is stored as JSON, NaN as null."""
        if self._is_recording():
            with self._changed:
                self._pending.events.append(make_event(kind, step, **data))
                self._add_size(SMALL_ITEM)

    def flush(self) -> None:
        """Wait until all input so far is on the disk, or recording has stopped."""
        if not self._is_recording():
            return
        with self._changed:
            self._flushes_asked += 1
            mine = self._flushes_asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._flushes_done >= mine or self._failure is not None)
        self._warn_if_stopped()

    def close(self) -> None:
        """Store all pending input and release the directory, once; it also runs at exit."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:  # a finalizer may run there
                # Unlike a join, this releases the lock even if it is held twice.
                self._changed.wait_for(lambda: self._ended)
        atexit.unregister(self.close)
        self._warn_if_stopped()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # On the caller's thread.

    def _is_recording(self) -> bool:
        if os.getpid() != self._pid:
            return False
        self._warn_if_stopped()
        return self._failure is None and not self._closing

    def _queue(self, call: str, copy: Callable[[], Block]) -> None:
        try:
            block = copy()
        except Exception as error:  # a mistake in measuring must not end training
            self._stop(f"{call} was given {error}")
            self._warn_if_stopped()
            return
        with self._changed:
            self._add_size(self._pending.add(block))

    def _slices(self, slices: ArrayLike | None) -> NDArray[np.int32]:
        if slices is None:
            return self._all_slices
        return _numbers("slices", slices, len(self._all_slices))

    def _add_size(self, nbytes: int) -> None:
        self._pending.nbytes += nbytes
        if self._pending.nbytes > PENDING_LIMIT:
            self._stop("the disk did not keep up")
        elif self._pending.nbytes >= self._flush_bytes:
            self._changed.notify_all()

    def _warn_if_stopped(self) -> None:
        """Warn once, on the caller's thread, so that the caller's warning filters apply."""
        if self._failure is None or self._warned:
            return
        self._warned = True
        warn_recording_stopped(
            f"Recording into {self.directory} has stopped: {self._failure}. Training goes on. The "
            "data stored before can be read. Fix the cause and resume, or record elsewhere.",
            stacklevel=3,
        )

    # On the writer's thread.

    def _work(self) -> None:
        try:
            while self._cycle():
                pass
        except Exception as error:  # any failure here ends recording, not training
            self._stop(f"{type(error).__name__}: {error}")
        finally:
            self._store.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _cycle(self) -> bool:
        """Wait for work, store it and wake the waiting threads; False if it was the last time."""
        self._store.merge()
        with self._changed:
            self._changed.wait_for(self._due, timeout=self._pause)
            self._pause = min(2.0 * self._pause, self._flush_seconds)
            pending, self._pending = self._pending, Pending()
            asked, closing = self._flushes_asked, self._closing
        self._store.write(pending)
        with self._changed:
            self._flushes_done = asked
            self._changed.notify_all()
        return not closing

    def _due(self) -> bool:
        return (
            self._closing
            or self._flushes_asked > self._flushes_done
            or self._pending.nbytes >= self._flush_bytes
        )

    def _stop(self, reason: str) -> None:
        with self._changed:
            self._failure = self._failure or reason
            self._pending = Pending()  # frees the memory
            self._changed.notify_all()


def _numbers(name: str, given: ArrayLike, known: int) -> NDArray[np.int32]:
    """Numbers of slices or parameters, one a row, all below `known`."""
    which = np.array(given, dtype=np.int32)
    if which.ndim != 1:
        raise InvalidArgument(f"{name} of shape {which.shape}; expected one number a row")
    if len(which) and not 0 <= which.min() <= which.max() < known:
        raise InvalidArgument(f"{name} from {which.min()} to {which.max()}; there are {known}")
    return which
