"""Threads that help the calling one with work that releases the GIL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Team:
    """Threads started by the first call that needs them, and again after a fork or after `close`.

    Numba's own threads (`parallel=True`) are no choice here: its OpenMP layer kills forked data
    loader workers, its workqueue layer aborts when two threads call at once.

    Args:
        name: of the threads, to recognise them by.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()

    @property
    def lock(self) -> threading.Lock:
        """Held by whoever uses what only one caller may use at a time."""
        self._begin_again_after_fork()
        return self._lock

    def run(self, work: Callable[[], object], threads: int) -> None:
        """Call `work` on as many threads, the calling one included, and wait for all of them.

        Args:
            work: takes what there is to do from a place that all calls share, until nothing is
                left. Errors are raised here.
            threads: how many calls at most; one that has not begun when the calling thread is done
                has nothing left to do and is dropped.
        """
        self._begin_again_after_fork()
        helping = []
        if threads > 1:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(threads - 1, self._name)
            helping = [self._executor.submit(work) for _ in range(threads - 1)]
        work()
        for helper in helping:
            if not helper.cancel():
                helper.result()

    def close(self) -> None:
        """End the threads; may be repeated."""
        with self.lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def _begin_again_after_fork(self) -> None:
        # The parent's threads do not exist here, and one of them may have held the lock.
        if self._process != os.getpid():
            self._begin()
