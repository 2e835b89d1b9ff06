"""A lock for one writer per run, which the kernel releases when its holder ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import weakref
from pathlib import Path

from spherical_motion.errors import RunDirectoryError, RunInUse


class RunLock:
    """An exclusive `flock` on a file, held from construction to `release`.

    The file names its holder for the error of a second writer. Only the kernel's lock counts, so
    the file of a killed process blocks no writer.

    Raises:
        RunInUse: another writer, in this process or another, holds it.
        RunDirectoryError: the file system cannot lock files.
    """

    def __init__(self, path: Path) -> None:
        # Started programs do not inherit it; forked children close it below.
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
                    "monitor first, or use another directory."
                ) from error
            raise RunDirectoryError(
                f"{path} cannot be locked ({error.strerror}). Record to a local disk, or mount "
                "this file system with locks."
            ) from error
        _held.add(self)

    def release(self) -> None:
        """Release the lock. The file stays; without it two writers could lock two files."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _release_after_fork() -> None:
    """Release locks in a forked child: it may outlive its parent and would block resuming."""
    for lock in list(_held):
        with contextlib.suppress(OSError):
            lock.release()


os.register_at_fork(after_in_child=_release_after_fork)
