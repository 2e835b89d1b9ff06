"""The writing end of a run: takes rows on the training thread, stores them on its own."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion.errors import InvalidArgument, RecordingStopped
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.events import make_event
from spherical_motion.records.schema import SETTINGS, RunInfo
from spherical_motion.records.store import Block, CellBlock, Pending, RunStore
from spherical_motion.vocabulary.gram import FIELDS

__all__ = ["RunWriter"]

PENDING_LIMIT = 1 << 30
"""Bytes that may wait for the disk; a disk that falls further behind counts as failed."""

FIRST_PAUSE = 1.0
"""Seconds until the first flush; each pause is twice the last, up to `flush_seconds`."""

SMALL_ITEM = 500
"""Bytes a scalar or an event is taken to occupy while it waits."""


class RunWriter:
    """Records into a run directory; training neither waits for it nor fails because of it.

    `rows`, `scalars` and `event` copy what they are given and return; a daemon thread stores it
    every `flush_seconds`, or as soon as `flush_bytes` have gathered. What was given before
    `flush` returned survives a kill or a power cut. If the disk fails, or falls behind by a
    gigabyte, recording stops: one `RecordingStopped` warning on the caller's thread at its next
    call, then all calls are ignored. Where warnings are errors, it is printed instead. In a
    forked child every method does nothing.

    Args:
        directory: a new or empty one, or with `resume` one that holds a run.
        info: the facts of the run.
        resume: append to the run in `directory`. The groups and the optimizer must be the ones
            it began with; learning rate, weight decay, momentum and β2 may differ.
        first_step: with `resume`, the step to go on from, after going back to a checkpoint.
        flush_seconds: how much time a kill may cost; less in the beginning, where the pauses
            grow from one second.
        flush_bytes: how much memory rows may take before they are stored earlier.

    Attributes:
        directory: the path.
        info: as given.
        next_step: 0, or on resume one past the largest step recorded, unless `first_step` was
            given. Of two rows with the same step and slice the later is read.

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
    ...     writer.rows(0, [[4, 0, 1, 0, 9, -3]], [[0.1, 0, 0, np.nan]])
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
                "RunWriter expects flush_seconds > 0 and flush_bytes >= 1, got "
                f"{flush_seconds} and {flush_bytes}."
            )
        self.directory = Path(directory)
        self.info = info
        self._flush_seconds, self._flush_bytes = flush_seconds, flush_bytes
        self._pause = min(FIRST_PAUSE, flush_seconds)
        self._all_slices = np.arange(len(info.slices), dtype=np.int32)
        self._store = RunStore(RunDirectory(self.directory), info, resume=resume)
        self.next_step = self._store.last_step + 1 if first_step is None else first_step

        self._pid = os.getpid()
        # Reentrant: a signal handler may close the run while the thread it interrupts holds it.
        self._changed = threading.Condition(threading.RLock())  # guards what follows
        self._pending = Pending()
        self._flushes_asked = self._flushes_done = 0
        self._closing = self._ended = False
        self._failure: str | None = None
        self._told = False

        self._thread = threading.Thread(target=self._work, name="run writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        if resume:
            self.event(
                "resumed",
                step=self.next_step,
                param_groups=info.param_groups,
                every=info.every,
                burst=info.burst,
                versions=info.versions,
                command=info.command,
                commit=info.commit,
            )

    def rows(
        self, step: int, gram: ArrayLike, settings: ArrayLike, slices: ArrayLike | None = None
    ) -> None:
        """Record one step. Copies its input; never raises, never waits for the disk.

        Args:
            step: the optimizer step, counted from 0.
            gram: shape (rows, 6), the products in the order of `vocabulary.gram.FIELDS`.
            settings: shape (rows, 4): lr, weight decay, momentum (β1) and β2, NaN for none.
            slices: shape (rows,), which slices; left out, all of `info.slices` in order.
        """
        if not self._recording():
            return
        try:
            block = self._block(step, gram, settings, slices)
        except Exception as error:  # a mistake in measuring must not end training
            self._stop(f"rows(step={step}) was given {error}")
            self._tell()
            return
        with self._changed:
            self._pending.blocks.append(block)
            self._took(block.nbytes)

    def cells(self, step: int, group: int, gram: ArrayLike) -> None:
        """Record the cells of one group at one step; on the terms of `rows`.

        Args:
            step: the optimizer step.
            group: its number in `info.groups`.
            gram: shape (cells, 6), in the order of the group's `cells`.
        """
        if not self._recording():
            return
        try:
            block = self._cell_block(step, group, gram)
        except Exception as error:  # a mistake in measuring must not end training
            self._stop(f"cells(step={step}, group={group}) was given {error}")
            self._tell()
            return
        with self._changed:
            self._pending.cells.append(block)
            self._took(block.gram.nbytes)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Record named numbers. Those with an `item()` are read later, on the writer's thread.

        What turns out to be no number is left out, and an event "skipped" says so once a name.
        """
        if not self._recording():
            return
        with self._changed:
            self._pending.scalars.append((int(step), dict(values)))
            self._took(SMALL_ITEM * len(values))

    def event(self, kind: str, /, step: int | None = None, **data: Any) -> None:
        """Record that something happened now. `data` is stored as JSON, NaN as null."""
        if not self._recording():
            return
        with self._changed:
            self._pending.events.append(make_event(kind, step, **data))
            self._took(SMALL_ITEM)

    def flush(self) -> None:
        """Wait until everything given so far is durable, or recording has stopped."""
        if not self._recording():
            return
        with self._changed:
            self._flushes_asked += 1
            mine = self._flushes_asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._flushes_done >= mine or self._failure is not None)
        self._tell()

    def close(self) -> None:
        """Store what is pending and let go of the directory. Again: nothing. Done at exit too."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:  # a finalizer may run there
                # Unlike a join, this lets go of the lock even where it is held twice.
                self._changed.wait_for(lambda: self._ended)
        atexit.unregister(self.close)
        self._tell()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # On the caller's thread.

    def _recording(self) -> bool:
        if os.getpid() != self._pid:
            return False
        self._tell()
        return self._failure is None and not self._closing

    def _block(
        self, step: int, gram: ArrayLike, settings: ArrayLike, slices: ArrayLike | None
    ) -> Block:
        which = self._all_slices if slices is None else np.array(slices, dtype=np.int32)
        block = Block(int(step), np.array(gram, np.float64), np.array(settings, np.float64), which)
        rows = len(which)
        expected = (rows, len(FIELDS)), (rows, len(SETTINGS))
        if (block.gram.shape, block.settings.shape) != expected:
            raise InvalidArgument(
                f"gram and settings of shapes {block.gram.shape} and {block.settings.shape}; "
                f"expected {expected[0]} and {expected[1]}"
            )
        if slices is not None and rows:
            first, last, known = which.min(), which.max(), len(self.info.slices)
            if not 0 <= first <= last < known:
                raise InvalidArgument(f"slices from {first} to {last}; there are {known}")
        return block

    def _cell_block(self, step: int, group: int, gram: ArrayLike) -> CellBlock:
        block = CellBlock(int(step), int(group), np.array(gram, np.float64))
        expected = (len(self.info.groups[block.group].cells), len(FIELDS))
        if block.gram.shape != expected:
            raise InvalidArgument(f"gram of shape {block.gram.shape}; expected {expected}")
        return block

    def _took(self, nbytes: int) -> None:
        self._pending.nbytes += nbytes
        if self._pending.nbytes > PENDING_LIMIT:
            self._stop("the disk did not keep up")
        elif self._pending.nbytes >= self._flush_bytes:
            self._changed.notify_all()

    def _tell(self) -> None:
        """Warn, once, on the thread whose filters and eyes the warning is for."""
        if self._failure is None or self._told:
            return
        self._told = True
        message = (
            f"Recording into {self.directory} has stopped: {self._failure}. Training goes on. "
            "What was stored before is readable; mend the cause and resume, or record elsewhere."
        )
        try:
            warnings.warn(message, RecordingStopped, stacklevel=3)
        except RecordingStopped:
            with contextlib.suppress(OSError, ValueError):  # a closed stderr
                print(f"RecordingStopped: {message}", file=sys.stderr)

    # On the writer's thread.

    def _work(self) -> None:
        try:
            while self._cycle():
                pass
        except Exception as error:  # whatever fails here ends recording, not training
            self._stop(f"{type(error).__name__}: {error}")
        finally:
            self._store.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _cycle(self) -> bool:
        """Wait, store, tell who waits; False when it was the last time."""
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
            self._pending = Pending()  # memory no longer grows
            self._changed.notify_all()
