"""One live writer a run: a lock that the kernel takes back when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path

from spherical_motion.errors import RunDirectoryError, RunInUse

__all__ = ["RunLock"]


class RunLock:
    """An exclusive `flock` on a file, held from construction to `release`.

    The file names its holder, for the error of whoever comes second; only the kernel's lock
    counts, so what a killed process left behind hinders nobody.

    Raises:
        RunInUse: another writer, in this process or another, holds it.
        RunDirectoryError: the file system cannot lock files.
    """

    def __init__(self, path: Path) -> None:
        # Not inherited by programs that are started; forked children close it below.
        self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError as error:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace").strip()
            self.release()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise RunInUse(
                    f"{path.parent} is being written by {holder or 'another process'}. Close its "
                    "monitor first, or name another directory."
                ) from error
            raise RunDirectoryError(
                f"{path} cannot be locked ({error.strerror}). Record to a local disk, or mount "
                "this file system with locks."
            ) from error
        _held.add(self)

    def release(self) -> None:
        """Let the next writer in. The file stays: removing it would let two writers lock two."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _forget_after_fork() -> None:
    """A child shares the parent's lock; were it to outlive the parent, nobody could resume."""
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock.release()


os.register_at_fork(after_in_child=_forget_after_fork)
