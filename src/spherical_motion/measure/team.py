"""Threads that help the calling one with work that releases the GIL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_forks = [0]
"""How often this process and its ancestors were forked off; asking for the process takes longer."""


def _count_fork() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Team:
    """Threads with a common name; the first call that needs them starts them.

    A call after a fork or after `close` starts them again. Numba's own threads (`parallel=True`)
    do not work: its OpenMP layer kills forked data loader workers, its workqueue layer aborts
    when two threads call at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._begin()

    @property
    def lock(self) -> threading.Lock:
        """Hold it to use what only one caller may use at a time."""
        self._begin_again_after_fork()
        return self._lock

    def run(self, work: Callable[[], object], threads: int) -> None:
        """Call `work` on up to `threads` threads, the calling one included; wait; raise errors.

        Each call of `work` takes shares from one place until nothing is left. So a call that has
        not begun when the calling thread is done has nothing to do and is dropped.
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
        self._forks = _forks[0]
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def _begin_again_after_fork(self) -> None:
        # The parent's threads do not exist here, and one of them may have held the lock.
        if self._forks != _forks[0]:
            self._begin()
