"""A lock for one writer per run, which the kernel releases when its holder ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import weakref
from pathlib import Path

from spherical_motion.errors import RunDirectoryError, RunInUse


class RunLock:
    """An exclusive `flock` on a file, held from construction to `release`.

    The file names its holder for the error of a second writer. Only the kernel's lock counts, so
    the file of a killed process blocks no writer.

    Raises:
        RunInUse: another writer, in this process or another, holds it.
        RunDirectoryError: the file system cannot lock files, or the file is a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = _opened(path)
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

    def check(self) -> None:
        """Compare the locked file with the one in place.

        Raises:
            RunDirectoryError: they are not the same, so the directory is not this writer's.
        """
        if self._handle is None:
            return
        held = os.fstat(self._handle)
        try:
            found = os.lstat(self.path)
        except OSError as error:
            where = f"its {self.path.name} cannot be found ({error.strerror})"
        else:
            if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino):
                return
            where = "another run may be there now"
        raise RunDirectoryError(
            f"{self.path.parent} was removed, moved or replaced while this run was recorded into "
            f"it: {where}. Nothing more is written there."
        )

    def excludes_others(self) -> bool:
        """Whether a second lock is refused, as it must be; some network file systems grant all."""
        second = _opened(self.path)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(second)
        return False

    def release(self) -> None:
        """Release the lock. The file stays; without it two writers could lock two files."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            with contextlib.suppress(OSError):  # the kernel releases it even if closing fails
                os.close(handle)


def _opened(path: Path) -> int:
    """A handle of the lock file, made if there is none; started programs do not inherit it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise RunDirectoryError(
            f"{path} is a symbolic link; expected a file of this run. Remove it, or use another "
            "directory."
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RunDirectoryError(f"{path} is no regular file. Remove it, or use another directory.")
    return handle


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _release_after_fork() -> None:
    """Release locks in a forked child: it may outlive its parent and would block resuming."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_after_fork)
