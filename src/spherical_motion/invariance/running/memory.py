"""Giving freed memory back to the system between passes."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

__all__ = ["return_freed_memory"]


def return_freed_memory() -> None:
    """Hand what is freed, and still held by the C library, back to the system; glibc only.

    glibc keeps freed blocks below 32 MiB in its heap, full of holes. Over a large network these
    came to as much again as the weights, for a process that held nothing in them.
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
