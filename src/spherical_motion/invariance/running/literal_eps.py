"""ε in norms written by hand: a small number added to a variance, or below which none may fall.

`x / torch.sqrt(x.var() + 1e-6)` holds its ε where neither a norm function nor an attribute shows
it. Any positive number up to 1e-3 that is added to a tensor, or bounds it from below, is taken for
one. Where it is none, an offset of that size goes missing while probing, and comes back as a
defect at the real weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

__all__ = ["LiteralEps"]

LARGEST = 1e-3

_TAKING_EPS = (F.normalize, F.cosine_similarity)
"""Functions that divide by a norm and take an ε of their own, at this place: `_EPS_PLACE`."""

_EPS_PLACE = 3
_ADDS = {"add", "__add__", "__radd__", "add_", "__iadd__"}
_BOUNDS = {"clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_"}
_ROOTS = {"sqrt", "rsqrt", "sqrt_", "rsqrt_", "pow", "__pow__", "pow_", "reciprocal"}
_DIVISIONS = {"div", "__truediv__", "true_divide", "divide", "div_", "__itruediv__"}


class LiteralEps:
    """Finds such numbers in the calls of one pass, puts another in their place, and sees norms.

    Args:
        replacement: what takes their place; None keeps them.

    >>> literals = LiteralEps(1e-18)
    >>> [literals.replaced(Tensor.add, (Tensor(), x), {})[0][1] for x in (1e-6, 0.5)]
    [1e-18, 0.5]
    """

    def __init__(self, replacement: float | None) -> None:
        self.replacement = replacement
        self._raised: dict[int, tuple[Tensor, float]] = {}

    def replaced(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, with the ε among them exchanged."""
        if self.replacement is None:
            return args, kwargs
        if function in _TAKING_EPS and len(args) <= _EPS_PLACE:
            return args, {**kwargs, "eps": self.replacement}
        place = _EPS_PLACE if function in _TAKING_EPS else _place(function, args, kwargs)
        if place is None:
            return args, kwargs
        if isinstance(place, str):
            return args, {**kwargs, place: self.replacement}
        return (*args[:place], self.replacement, *args[place + 1 :]), kwargs

    def note(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Remember what an ε was added to, until it is seen whether a norm divides by it."""
        place = _place(function, args, kwargs)
        if place is not None and isinstance(out, Tensor) and out.is_floating_point():
            eps = kwargs[place] if isinstance(place, str) else args[place]
            # The tensor is kept, so that its identity is not given to another one.
            self._raised[id(out)] = (out, float(eps))

    def divisor(self, function: Any, args: tuple[Any, ...]) -> tuple[Tensor, float] | None:
        """What a call takes a root of or divides by, if an ε was added to it, and the ε's share.

        Each is reported once. The share is NaN where it is not known.
        """
        if function in _TAKING_EPS:
            return (args[0], math.nan) if args else None
        name = getattr(function, "__name__", "")
        position = 0 if name in _ROOTS else 1 if name in _DIVISIONS else None
        if position is None or len(args) <= position:
            return None
        found = self._raised.pop(id(args[position]), None)
        if found is None:
            return None
        raised, eps = found
        values = raised.detach()
        return raised, float((eps / values.clamp_min(eps)).mean()) if values.numel() else math.nan


def _place(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str | None:
    """Where a call holds its ε: a position, a keyword, or None."""
    name = getattr(function, "__name__", "")
    if name in _ADDS:
        places: tuple[int | str, ...] = (1, 0, "other")
    elif name in _BOUNDS:
        places = (1, "min")
    else:
        return None
    for place in places:
        if isinstance(place, str):
            value = kwargs.get(place)
        else:
            value = args[place] if place < len(args) else None
        if isinstance(value, float) and 0.0 < value <= LARGEST:
            return place
    return None
