"""Scalars of a training loop: copied when they are given, read when there is time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import described, shown


def copy_scalars(values: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """(copies of scalars by name, by name why one is left out)."""
    copies: dict[str, object] = {}
    left: dict[str, str] = {}
    for key, value in values.items():
        name = shown(key)
        try:
            copies[name] = copy_scalar(value)
        except Exception as error:  # unknown classes may raise anything
            left[name] = not_a_number(value, error)
    return copies, left


def not_a_number(value: object, error: BaseException) -> str:
    """Why a value is no scalar."""
    return f"{type(value).__name__} is not a number: {described(error)}"


def copy_scalar(value: object) -> object:
    """A number, or a copy that is read later because reading it might make training wait.

    The loop may write into what it gave as soon as this returns. Objects of unknown classes with
    an `item()` are kept as they are.

    Raises:
        InvalidArgument, TypeError, ValueError: it is not one number; unknown classes raise what
            they like.

    >>> copy_scalar(np.array(0.5)), copy_scalar("2")
    (0.5, 2.0)
    """
    if isinstance(value, float):
        return float(value)
    if isinstance(value, np.ndarray):
        return read_scalar(value)
    if callable(detach := getattr(value, "detach", None)):
        return _taken_tensor(detach())
    if callable(getattr(value, "item", None)) and not isinstance(value, np.generic):
        return value
    return read_scalar(value)


def read_scalar(value: object) -> float:
    """The number that a scalar is; raises what its `item()` raises, or `float`."""
    if isinstance(value, np.ndarray) and value.size != 1:
        raise InvalidArgument(f"it has {value.size} entries")
    item = getattr(value, "item", None)
    found: Any = item() if callable(item) else value
    return float(found)


def _taken_tensor(tensor: Any) -> object:
    """A detached tensor of torch: its number if it lies in memory, else a copy on its device."""
    if (entries := tensor.numel()) != 1:
        raise InvalidArgument(f"it has {entries} entries")
    return read_scalar(tensor) if tensor.is_cpu else tensor.clone()
