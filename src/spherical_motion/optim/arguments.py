"""Arguments that several constructors here take, checked in the same words."""

from __future__ import annotations

import math
from typing import Any

import torch

from spherical_motion.errors import InvalidArgument

__all__ = ["check_callable", "number"]


def number(where: str, name: str, value: Any) -> Any:
    """`value`, checked to be a finite real number; tensors of one element count as one.

    Raises:
        InvalidArgument: it is not.

    >>> number("AdamG", "lr", 0.1)
    0.1
    """
    # A tensor elsewhere than on the CPU would have to be waited for.
    waits = isinstance(value, torch.Tensor) and not value.is_cpu
    try:
        finite = waits or (not isinstance(value, (str, bytes)) and math.isfinite(float(value)))
    except (TypeError, ValueError, RuntimeError):
        finite = False
    if not finite:
        raise InvalidArgument(f"{where}({name}=...) must be a finite number, got {value!r}.")
    return value


def check_callable(where: str, name: str, value: Any, signature: str) -> None:
    """Raise InvalidArgument unless `value` is None or can be called."""
    if value is not None and not callable(value):
        raise InvalidArgument(
            f"{where}({name}=...) must be callable as {signature}, got {value!r}."
        )
