"""The six inner products of one step; nothing else is ever measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import EllipsisType
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument

FIELDS = ("ww", "wd", "dd", "wg", "gg", "dg")
"""The order in which the six are stored and passed as one array."""

Index: TypeAlias = ArrayLike | slice | EllipsisType | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """Inner products of weights `w`, step `d` and gradient `g`, as float64 arrays of one shape.

    `w` are the weights before a step, `d = w_after - w` the step itself, and `g` the loss
    gradient the optimizer used, without weight decay. The caller gives the axes their meaning
    (steps, groups, rows); every function that takes a Gram keeps the shape.

    Grams of **disjoint** slices add: filters into a layer, shards into a tensor.

    >>> row = Gram(ww=4.0, wd=0.0, dd=1.0, wg=0.0, gg=9.0, dg=-3.0)
    >>> (row + row).ww
    array(8.)
    """

    ww: NDArray[np.float64]
    wd: NDArray[np.float64]
    dd: NDArray[np.float64]
    wg: NDArray[np.float64]
    gg: NDArray[np.float64]
    dg: NDArray[np.float64]

    def __init__(
        self,
        ww: ArrayLike,
        wd: ArrayLike,
        dd: ArrayLike,
        wg: ArrayLike,
        gg: ArrayLike,
        dg: ArrayLike,
    ) -> None:
        arrays = [np.asarray(x, dtype=np.float64) for x in (ww, wd, dd, wg, gg, dg)]
        shapes = {a.shape for a in arrays}
        if len(shapes) != 1:
            found = ", ".join(f"{n}{a.shape}" for n, a in zip(FIELDS, arrays, strict=True))
            raise InvalidArgument(
                f"Gram(...) expects six arrays of one shape, got {found}. "
                "Broadcast them first with numpy.broadcast_arrays."
            )
        for name, array in zip(FIELDS, arrays, strict=True):
            object.__setattr__(self, name, array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape shared by the six arrays."""
        return self.ww.shape

    def __add__(self, other: Gram) -> Gram:
        if not isinstance(other, Gram):
            return NotImplemented
        return Gram.from_array(self.to_array() + other.to_array())

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Gram:
        return Gram(*(getattr(self, name)[index] for name in FIELDS))

    def sum(self, axis: int | tuple[int, ...]) -> Gram:
        """Add the Grams along `axis`, which must run over disjoint slices."""
        return Gram(*(getattr(self, name).sum(axis=axis) for name in FIELDS))

    def to_array(self) -> NDArray[np.float64]:
        """The six arrays stacked on a last axis of length 6, in the order of `FIELDS`."""
        return np.stack([getattr(self, name) for name in FIELDS], axis=-1)

    @classmethod
    def from_array(cls, array: ArrayLike) -> Gram:
        """The inverse of `to_array`: the last axis holds the six products."""
        array = np.asarray(array, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != len(FIELDS):
            raise InvalidArgument(
                f"Gram.from_array expects a last axis of length {len(FIELDS)} "
                f"({', '.join(FIELDS)}), got shape {array.shape}."
            )
        return cls(*np.moveaxis(array, -1, 0))

    @classmethod
    def stack(cls, grams: Iterable[Gram], axis: int = 0) -> Gram:
        """Stack Grams along a new axis, for example one for each step."""
        rows = list(grams)
        if not rows:
            raise InvalidArgument("Gram.stack expects at least one Gram, got none.")
        return cls(*(np.stack([getattr(r, n) for r in rows], axis=axis) for n in FIELDS))
