"""Folders that survive a power cut, names of new runs, and whether a file system will do."""

from __future__ import annotations

import contextlib
import datetime
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from spherical_motion.errors import InvalidArgument, RunDirectoryError
from spherical_motion.records.files.durable import (
    TEMPORARY_SUFFIX,
    publish,
    sync_names,
)

PROBE = "run.probe"
"""Name of the file with which a file system is tried out; it is removed at once."""

NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What opening or syncing a folder of others may answer."""

LEFT_BY_PROBE = (PROBE, PROBE + TEMPORARY_SUFFIX)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing; all of them survive a power cut."""
    path = path.absolute()
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_names(folder.parent)
    for folder in path.parents:
        # Others made these, perhaps a moment ago. Not all of them can be opened or written.
        try:
            sync_names(folder)
        except OSError as error:
            if folder == path.parent and error.errno not in NOT_OURS:
                raise


def make_new_folder(parent: Path, now: datetime.datetime | None = None) -> Path:
    """Make a folder named after date and time that no other process has, and return its path.

    >>> import tempfile
    >>> noon = datetime.datetime(2024, 1, 1, 12)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     [make_new_folder(Path(directory) / "runs", noon).name for _ in range(3)]
    ['2024-01-01_12-00-00', '2024-01-01_12-00-00_2', '2024-01-01_12-00-00_3']
    """
    make_folders(parent)
    name = f"{now or datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    for again in itertools.count(1):
        path = parent / (name if again == 1 else f"{name}_{again}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            return path
    raise AssertionError("unreachable")


def try_out(directory: Path, check: Callable[[], object]) -> None:
    """Publish a file in a directory, as a recording will again and again, and remove it.

    Raises:
        RunDirectoryError: the file system does not rename files, or replaces others.
    """
    probe = directory / PROBE
    for left in LEFT_BY_PROBE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory / left)
    try:
        publish(probe, lambda file: file.write(b"tried out"), check=check)
    except RunDirectoryError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunDirectoryError(
                f"{directory}: the disk is full ({error.strerror}). Free space and start again."
            ) from error
        raise RunDirectoryError(
            f"{directory}: a new file cannot be synced and renamed there ({error.strerror or error}"
            "). Record to a local disk, or mount this file system otherwise."
        ) from error
    os.unlink(probe)


def local_path(where: str, directory: str | os.PathLike[str]) -> Path:
    """Where to record, as a path.

    Raises:
        InvalidArgument: it is the URL of another file system; a run is recorded to a local one.
    """
    if isinstance(directory, str) and "://" in directory:
        raise InvalidArgument(
            f"{where}(directory=...) must be a local directory, got {directory!r}. Record to a "
            "local directory and copy it there; `read` takes the URL."
        )
    return Path(directory)
