"""Every call by which a writer reaches the disk: counted, failed, killed or recorded.

The calls are functions of `os`, `io.open`, `fcntl.flock` and the opening of Parquet files; a test
shows that none is missing. Nothing is synced in earnest: a kill leaves what the kernel knows, and a
power cut is worked out from a recording (`power.py`).
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow.parquet as pq

CHANGING = (
    *("open", "write", "pwrite", "ftruncate", "truncate", "fsync", "link", "rename", "replace"),
    *("unlink", "remove", "mkdir", "rmdir", "close"),
)
"""Calls that change the disk, or the handles by which it is changed."""

LOOKING = ("stat", "lstat", "fstat", "listdir", "scandir", "lseek", "read", "readv", "pread")
"""Calls that only look."""


class Killed(BaseException):
    """Nothing may catch it and go on, like a kill."""


class Policy(Protocol):
    """What becomes of a call: `real` makes it."""

    def __call__(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Make the call, or not."""
        ...


@contextlib.contextmanager
def intercepted(policy: Policy) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Hand every call to `policy`; handles that a killed writer left open are closed at the end.

    Gives a function that calls another one while no thread reaches the disk.
    """
    opened: set[int] = set()
    lock = threading.RLock()
    real_close = os.close

    def through(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with lock:
                found = policy(name, real, args, kwargs)
                if name == "open":
                    opened.add(found)
                elif name == "close":
                    opened.discard(args[0])
                return found

        return call

    def aside(function: Callable[[], object]) -> None:
        with lock:
            function()

    places = [(os, name, name) for name in (*CHANGING, *LOOKING)]
    places += [(io, "open", "open to read"), (builtins, "open", "open to read")]
    places += [(fcntl, "flock", "flock"), (pq, "ParquetFile", "open part")]
    before = [(module, attribute, getattr(module, attribute)) for module, attribute, _ in places]
    wrapped = [through(name, getattr(module, attribute)) for module, attribute, name in places]
    for (module, attribute, _), function in zip(places, wrapped, strict=True):
        setattr(module, attribute, function)
    try:
        yield aside
    finally:
        for module, attribute, function in before:
            setattr(module, attribute, function)
        for handle in opened:
            with contextlib.suppress(OSError):
                real_close(handle)


class Counting:
    """Makes every call, and lists their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.names.append(name)
        return None if name == "fsync" else real(*args, **kwargs)


class Killing(Counting):
    """Kills the writer at call number `at`: neither it nor any later one is made.

    A write is made by half, and then `end` is called, which may end the process.
    """

    def __init__(self, at: int, end: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._at, self._end = at, end

    def __call__(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if len(self.names) >= self._at:
            if len(self.names) == self._at:
                half(name, real, args)
                self._end()
            self.names.append(name)
            raise Killed
        return super().__call__(name, real, args, kwargs)


class Failing(Counting):
    """Fails call number `at`, or from it on all that change the disk, with this error."""

    def __init__(self, at: int, number: int, *, for_ever: bool) -> None:
        super().__init__()
        self._at, self._number, self._for_ever = at, number, for_ever
        self.failed: list[str] = []

    def __call__(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        place = len(self.names)
        changes = name in CHANGING and name != "close"
        if place == self._at or (self._for_ever and place > self._at and changes):
            self.names.append(name)
            self.failed.append(name)
            half(name, real, args)
            if name == "close":  # as in the kernel: the handle is gone even if closing fails
                real(*args)
            raise OSError(self._number, os.strerror(self._number), *map(str, args[:1]))
        return super().__call__(name, real, args, kwargs)


def half(name: str, real: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Write the first half of what a write was given."""
    if name == "write":
        handle, data = args
        real(handle, bytes(data)[: len(data) // 2])
