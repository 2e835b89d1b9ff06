"""Returning freed memory to the system between passes."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def return_freed_memory() -> None:
    """Return freed memory that the C library still holds to the system; glibc only.

    glibc keeps freed blocks below 32 MiB in its heap. For a large network these took as much memory
    again as the weights.
    """
    trim = _trimmer()
    if trim is not None:
        trim(0)


@functools.cache
def _trimmer() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
