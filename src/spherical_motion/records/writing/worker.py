"""The thread that stores what waits, and the waits of others for it."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from spherical_motion.errors import RunDirectoryError
from spherical_motion.notices import described, listed, notify
from spherical_motion.records.files.events import MOST_STEPS, Event, make_event
from spherical_motion.records.pending import SMALL_ITEM, Pending
from spherical_motion.records.storing.store import RunStore
from spherical_motion.records.writing.scalars import not_a_number, read_scalar
from spherical_motion.records.writing.waiting import wait_aloud
from spherical_motion.vocabulary import EventKind

PENDING_LIMIT = 1 << 30
"""Bytes that may wait for the disk; more than this counts as a failure of the disk."""

FIRST_PAUSE = 1.0
"""Seconds until the first flush; each pause is twice the last, up to `flush_seconds`."""


class Worker:
    """Stores what waits on a daemon thread of its own, which ends with the run.

    Whatever is raised on the thread ends recording, and is kept in `failure`. No wait for the
    thread is longer than `patience`, and each says every few seconds what it waits for.

    Args:
        store: the claimed run directory; closed when the thread ends.
        directory: its path, for messages.
        flush_seconds, flush_bytes, patience: as for `RunWriter`.

    Attributes:
        failure: why recording has stopped; None while it goes on.

    Raises:
        RunDirectoryError: no thread can be started; the store is closed.
    """

    def __init__(
        self,
        store: RunStore,
        directory: Path,
        *,
        flush_seconds: float,
        flush_bytes: int,
        patience: float,
    ) -> None:
        self._store, self._directory = store, directory
        self._flush_seconds, self._flush_bytes = flush_seconds, flush_bytes
        self._patience = patience
        self._pause = min(FIRST_PAUSE, flush_seconds)
        self._pid = os.getpid()
        # Reentrant: a signal handler may close the run while the interrupted thread holds it.
        self._changed = threading.Condition(threading.RLock())  # guards the fields below
        self._pending = Pending()
        self._storing: Pending | None = None
        self._flushes_asked = self._flushes_done = 0
        self._closing = self._ended = False
        self._skipped: dict[str, str] = {}
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._work, name="run writer", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            store.close()
            raise RunDirectoryError(
                f"Recording to {directory} cannot begin: {error}. A writer needs one thread. End "
                "other threads or raise the limit."
            ) from error
        atexit.register(self.close)

    # On any thread.

    @property
    def is_own(self) -> bool:
        """Whether this is the process that began; in a forked one there is no thread."""
        return os.getpid() == self._pid

    @property
    def is_open(self) -> bool:
        """Whether input is still taken: this is the process that began, and nothing has ended."""
        if not self.is_own:
            return False
        if self.failure is None and not self._ended and not self._thread.is_alive():
            self.stop("its thread has ended")
        return self.failure is None and not self._closing

    @property
    def skipped(self) -> dict[str, str]:
        """Names of scalars, kinds of events and tables with what was left out, and why."""
        with self._changed:
            return self._store.left_out | self._skipped

    def put(self, add: Callable[[Pending], int]) -> None:
        """Let `add` append to what waits; it returns how many bytes it has added."""
        with self._changed:
            self._pending.nbytes += add(self._pending)
            if self._pending.nbytes > PENDING_LIMIT:
                self.stop("the disk did not keep up", drop=True)
            elif self._pending.nbytes >= self._flush_bytes:
                self._changed.notify_all()

    def skip(self, step: object, name: str, reason: str) -> None:
        """Note that something cannot be recorded, with an event the first time for each name."""
        with self._changed:
            if name in self._skipped:
                return
            self._skipped[name] = reason
            at = step if isinstance(step, int) and 0 <= step < MOST_STEPS else None
            event = make_event(EventKind.SKIPPED, at, name=name, reason=reason)
            self.put(lambda pending: pending.add_event(event, SMALL_ITEM))

    def stop(self, reason: str, *, drop: bool = False) -> None:
        """Take nothing more; what waits is still stored, unless `drop` gives its memory back."""
        with self._changed:
            self.failure = self.failure or reason
            if drop:
                self._pending = Pending()
            self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until all input so far is on the disk; False if it is not, or not yet."""
        if threading.current_thread() is self._thread:  # a finalizer may run there
            return False
        with self._changed:
            self._flushes_asked += 1
            mine = self._flushes_asked
            self._changed.notify_all()
        if self._wait(lambda: self._flushes_done >= mine or self.failure is not None):
            return self.failure is None
        notify(f"{self._what_waits()} {self._gone_on()}")
        return False

    def end(self) -> None:
        """Take nothing more and let the thread store what is left and end; does not wait."""
        if not self.is_own:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> bool:
        """End, and wait until the thread has; False if it had not. Runs at exit, too."""
        if not self.is_own:
            return False
        self.end()
        ended = threading.current_thread() is self._thread  # a finalizer may run there
        if not ended and not (ended := self._wait(lambda: self._ended)):
            notify(f"{self._what_waits()} {self._gone_on()}")
        atexit.unregister(self.close)
        return ended

    def _wait(self, done: Callable[[], bool]) -> bool:
        def settled() -> bool:
            return done() or self._ended or not self._thread.is_alive()

        def say(waited: float) -> None:
            notify(
                f"{self._what_waits()} Waiting for {waited:.0f} s so far, at most "
                f"{self._patience:.0f} s. If this process is killed now, that is lost; all that "
                "was stored before is kept."
            )

        return wait_aloud(self._changed, settled, self._patience, say)

    def _what_waits(self) -> str:
        with self._changed:
            waiting = [p.summary() for p in (self._storing, self._pending) if p is not None]
        what = [text for text in waiting if text]
        if not what:
            return f"{self._directory}: the disk does not answer; all data are stored."
        return f"{self._directory}: the disk does not answer; not stored: {listed(what)}."

    def _gone_on(self) -> str:
        return (
            f"Not waiting any longer than {self._patience:.0f} s. The writer goes on as long as "
            "this process lives, and holds the run's lock until then."
        )

    # On the writer's thread.

    def _work(self) -> None:
        try:
            while self._cycle():
                pass
        except BaseException as error:  # whatever it is, it ends recording and not training
            self.stop(described(error), drop=True)
        finally:
            try:
                self._store.close()
            except BaseException as error:  # as above
                self.stop(f"the lock could not be released: {described(error)}", drop=True)
            finally:
                with self._changed:
                    self._ended = True
                    self._storing = None
                    self._changed.notify_all()
                with contextlib.suppress(Exception):  # nothing is left to be done at exit
                    atexit.unregister(self.close)

    def _cycle(self) -> bool:
        """Wait for work, store it and wake the waiting threads; False if it was the last time."""
        self._store.merge()
        with self._changed:
            self._changed.wait_for(self._due, timeout=self._pause)
            self._pause = min(2.0 * self._pause, self._flush_seconds)
            self._storing, self._pending = self._pending, Pending()
            asked, closing = self._flushes_asked, self._closing
        self._store.write(self._read_scalars(self._storing))
        with self._changed:
            self._storing = None
            self._flushes_done = asked
            self._changed.notify_all()
        return not closing

    def _due(self) -> bool:
        return (
            self._closing
            or self._flushes_asked > self._flushes_done
            or self._pending.nbytes >= self._flush_bytes
        )

    def _read_scalars(self, pending: Pending) -> Pending:
        """Read the scalars that were left to this thread; those that raise become events."""
        found: list[tuple[int, Mapping[str, object]]] = []
        events: list[Event] = []
        for step, values in pending.scalars:
            numbers: dict[str, object] = {}
            for name, value in values.items():
                try:
                    numbers[name] = read_scalar(value)
                except BaseException as error:  # an exit that `item` asks for is none of ours
                    reason = not_a_number(value, error)
                    with self._changed:
                        if self._skipped.setdefault(name, reason) is reason:
                            kind = EventKind.SKIPPED
                            events.append(make_event(kind, step, name=name, reason=reason))
            found.append((step, numbers))
        pending.scalars, pending.events = found, pending.events + events
        return pending
