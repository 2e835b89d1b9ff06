"""ε in norms written by hand: a small number added to a variance, or bounding it from below.

In `x / torch.sqrt(x.var() + 1e-6)` neither a norm function nor an attribute shows the ε. So any
positive number up to 1e-3 that is added to a tensor, or bounds it from below, counts as one. If it
is something else, a small offset is missing during the probes; it shows as a defect at the real
weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from spherical_motion.invariance.running.norm_functions import Args, Function

LARGEST = 1e-3

_TAKING_EPS = (F.normalize, F.cosine_similarity)
"""Functions that divide by a norm and take an ε, at position `_EPS_PLACE`."""

_EPS_PLACE = 3
_ADDS = {"add", "__add__", "__radd__", "add_", "__iadd__"}
_BOUNDS = {"clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_"}
_ROOTS = {"sqrt", "rsqrt", "sqrt_", "rsqrt_", "pow", "__pow__", "pow_", "reciprocal"}
_DIVISIONS = {"div", "__truediv__", "true_divide", "divide", "div_", "__itruediv__"}


class LiteralEps:
    """Replaces such numbers in the calls of one pass (None keeps them); detects norms by them.

    >>> literals = LiteralEps(1e-18)
    >>> [literals.replaced(Tensor.add, (Tensor(), x), {})[0][1] for x in (1e-6, 0.5)]
    [1e-18, 0.5]
    """

    def __init__(self, replacement: float | None) -> None:
        self.replacement = replacement
        self._raised: dict[int, tuple[Tensor, float]] = {}

    def replaced(
        self, function: Function, args: Args, kwargs: dict[str, Any]
    ) -> tuple[Args, dict[str, Any]]:
        """The arguments of a call, with the ε among them replaced."""
        if self.replacement is None:
            return args, kwargs
        place = _place(function, args, kwargs)
        if function in _TAKING_EPS:
            place = _EPS_PLACE if len(args) > _EPS_PLACE else "eps"
        if place is None:
            return args, kwargs
        if isinstance(place, str):
            return args, {**kwargs, place: self.replacement}
        return (*args[:place], self.replacement, *args[place + 1 :]), kwargs

    def remember(self, function: Function, args: Args, kwargs: dict[str, Any], out: object) -> None:
        """Remember the result of adding an ε, in case a norm divides by it."""
        place = _place(function, args, kwargs)
        if place is not None and isinstance(out, Tensor) and out.is_floating_point():
            eps = kwargs[place] if isinstance(place, str) else args[place]
            # Keeping the tensor keeps its `id` from being reused.
            self._raised[id(out)] = (out, float(eps))

    def divisor(self, function: Function, args: Args) -> tuple[Tensor, float] | None:
        """A tensor with an ε that a call divides by or takes the root of, and the ε's share.

        Each tensor is reported once. The share is NaN if unknown.
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
        return raised, float((eps / raised.detach().clamp_min(eps)).mean())


def _place(function: Function, args: Args, kwargs: dict[str, Any]) -> int | str | None:
    """Where a call holds its ε: a position, a keyword, or None."""
    name = getattr(function, "__name__", "")
    if name in _ADDS:
        places: tuple[int | str, ...] = (1, 0, "other")
    elif name in _BOUNDS:
        places = (1, "min")
    else:
        return None
    given = dict(enumerate(args)) | kwargs
    for place in places:
        value = given.get(place)
        if isinstance(value, float) and 0.0 < value <= LARGEST:
            return place
    return None
