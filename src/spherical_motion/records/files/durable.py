"""Write files that are complete or absent, whatever kills the process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Make the file at `path`: `write` fills a temporary file, which is synced and renamed.

    After it returns, the file survives a power cut. If it raises, `path` is unchanged.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a directory, which a rename leaves out."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(directory: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for leftover in directory.glob("*" + TEMPORARY_SUFFIX):
        leftover.unlink(missing_ok=True)
