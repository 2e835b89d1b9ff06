"""Write files that are complete or absent, whatever kills the process or cuts the power."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from spherical_motion.errors import RunDirectoryError

TEMPORARY_SUFFIX = ".tmp"

NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EMLINK}
"""What a file system without hard links answers to the wish for one."""


def publish(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    check: Callable[[], object] = lambda: None,
    replace: bool = False,
) -> None:
    """Make the file at `path`: `write` fills a temporary file, which is synced and renamed.

    After it returns, the file survives a power cut. If it raises, `path` holds what it held, or
    the whole new file if only the last sync failed.

    Args:
        path: the name of the file.
        write: writes the content into the file that it is given.
        check: raises if the directory is not the writer's any more; it is called right before
            something is made in it.
        replace: whether files of that name, and of the temporary one, are replaced; else they are
            an error.

    Raises:
        RunDirectoryError: something else has the name of the temporary file.
        FileExistsError: `path` exists, and `replace` is not set.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    check()
    if replace:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    handle = _made(temporary)
    try:
        try:
            write(cast(BinaryIO, _Whole(handle)))
            os.fsync(handle)
        finally:
            os.close(handle)
        check()
        if replace:
            os.replace(temporary, path)
        else:
            rename_new(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_names(path.parent)


def rename_new(old: Path, new: Path) -> None:
    """Rename a file, but never over another one.

    Where a file system has no hard links, another file that appears between the look and the
    renaming would be replaced; the lock of the run keeps other writers away.

    Raises:
        FileExistsError: `new` exists.
    """
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        os.rename(old, new)
    else:
        os.unlink(old)


def append_synced(path: Path, data: bytes) -> None:
    """Append to an existing file; when it returns, the bytes survive a power cut."""
    # Without O_CREAT, so that a deleted run stays deleted.
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _Whole(handle).write(data)
        os.fsync(handle)
    finally:
        os.close(handle)


def cut_synced(path: Path, size: int) -> None:
    """Cut a file to its first `size` bytes."""
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(handle, size)
        os.fsync(handle)
    finally:
        os.close(handle)


def make_empty(path: Path) -> None:
    """Make an empty file if there is none of that name; a link is an error."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o666))


def sync_names(directory: Path) -> None:
    """Wait until the names in a directory are on the disk, which syncing a file leaves out."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that write names at once may answer this
            raise
    finally:
        os.close(handle)


def remove_leftovers(directory: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for name in os.listdir(directory):
        if name.endswith(TEMPORARY_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory / name)


def _made(path: Path) -> int:
    """A handle of a new file; a file or link of that name is never followed or reused."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError as error:
        raise RunDirectoryError(
            f"{path} is in the way: expected no such name, found "
            f"{'a symbolic link' if path.is_symlink() else 'a file'} that this writer did not "
            "make. Remove it and resume."
        ) from error


class _Whole(io.RawIOBase):
    """An open file; `write` stores all that it is given, or raises."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        view = memoryview(data).cast("B")
        size = len(view)
        while len(view):
            view = view[os.write(self._handle, view) :]
        return size

    def readinto(self, buffer, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return os.readv(self._handle, [buffer])

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return os.lseek(self._handle, offset, whence)
