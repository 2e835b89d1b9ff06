"""Domain checks and results shared by the closed forms: floats in, float out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import OutOfDomain

__all__ = ["above_zero", "not_negative", "plain"]

Array = NDArray[np.float64]


def above_zero(function: str, name: str, value: Any) -> Array:
    """`value` as an array, checked to be finite and > 0 throughout."""
    array = np.asarray(value, dtype=np.float64)
    return _checked(array, np.isfinite(array) & (array > 0), function, name, "> 0")


def not_negative(function: str, name: str, value: Any) -> Array:
    """`value` as an array, checked to be finite and >= 0 throughout."""
    array = np.asarray(value, dtype=np.float64)
    return _checked(array, np.isfinite(array) & (array >= 0), function, name, ">= 0")


def plain(value: Any) -> Any:
    """A float for a single number, the array itself otherwise."""
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else array


def _checked(array: Array, good: NDArray[np.bool_], function: str, name: str, rng: str) -> Array:
    if not good.all():
        where = np.argwhere(~good)[0].tolist()
        at = f" at index {', '.join(map(str, where))}" if where else ""
        raise OutOfDomain(
            f"{function}({name}=...) must be finite and {rng}, got {array[tuple(where)]}{at}."
        )
    return array
