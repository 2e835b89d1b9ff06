"""The inner products of one step: six of weights, step and gradient, and two of the optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from types import EllipsisType
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.errors import InvalidArgument

FIELDS = ("ww", "wd", "dd", "wg", "gg", "dg")
"""The six products of every step, in the order in which they are stored and passed as one array."""

PRODUCTS = (*FIELDS, "wp", "ws")
"""The six, and the two that need the optimizer's state."""

Index: TypeAlias = ArrayLike | slice | EllipsisType | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Gram:
    """Inner products of weights `w`, step `d` and gradient `g`, as float64 arrays of one shape.

    `w` are the weights before a step, `d = w_after - w` the step itself, and `g` the loss
    gradient the optimizer used, without weight decay. The caller gives the axes their meaning
    (steps, groups, rows); every function that takes a Gram keeps the shape.

    Two more products describe how the optimizer rescales the gradient. With `x` what enters its
    running averages (`g`, or `g + λw` where weight decay acts through the gradient), `P` its
    diagonal preconditioner after the step and `b` its running average before the step:

    * wp = <w, Px>, the pull of gradient and decay on the norm. For SGD, P is 1.
    * ws = <w, (P - P_before)b>, the effect of a preconditioner that changes.

    They are NaN where they were not measured, or where the optimizer has no such form. Left out,
    they are read-only and take no memory, also in parts, sums and copies.

    Grams of **disjoint** slices add: filters into a layer, shards into a tensor.

    >>> row = Gram(ww=4.0, wd=0.0, dd=1.0, wg=0.0, gg=9.0, dg=-3.0)
    >>> (row + row).ww
    array(8.)
    >>> row.wp
    array(nan)
    """

    ww: NDArray[np.float64]
    wd: NDArray[np.float64]
    dd: NDArray[np.float64]
    wg: NDArray[np.float64]
    gg: NDArray[np.float64]
    dg: NDArray[np.float64]
    wp: NDArray[np.float64]
    ws: NDArray[np.float64]

    def __init__(
        self,
        ww: ArrayLike,
        wd: ArrayLike,
        dd: ArrayLike,
        wg: ArrayLike,
        gg: ArrayLike,
        dg: ArrayLike,
        wp: ArrayLike | None = None,
        ws: ArrayLike | None = None,
    ) -> None:
        arrays = [np.asarray(x, dtype=np.float64) for x in (ww, wd, dd, wg, gg, dg)]
        arrays += [
            unknown(arrays[0].shape) if x is None else np.asarray(x, dtype=np.float64)
            for x in (wp, ws)
        ]
        shapes = {a.shape for a in arrays}
        if len(shapes) != 1:
            found = ", ".join(f"{n}{a.shape}" for n, a in zip(PRODUCTS, arrays, strict=True))
            raise InvalidArgument(
                f"Gram(...) expects arrays of one shape, got {found}. "
                "Broadcast them first with numpy.broadcast_arrays."
            )
        for name, array in zip(PRODUCTS, arrays, strict=True):
            object.__setattr__(self, name, array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape shared by all arrays."""
        return self.ww.shape

    def __add__(self, other: Gram) -> Gram:
        if not isinstance(other, Gram):
            return NotImplemented
        six = (getattr(self, name) + getattr(other, name) for name in FIELDS)
        pairs = ((self.wp, other.wp), (self.ws, other.ws))
        return Gram(*six, *(None if is_unknown(a) or is_unknown(b) else a + b for a, b in pairs))

    def __getitem__(self, index: Index | tuple[Index, ...]) -> Gram:
        return self._of_each(lambda array: array[index])  # pyright: ignore

    def sum(self, axis: int | tuple[int, ...]) -> Gram:
        """Add the Grams along `axis`, which must run over disjoint slices."""
        return self._of_each(lambda array: array.sum(axis=axis))

    def to_array(self, names: Sequence[str] = FIELDS) -> NDArray[np.float64]:
        """These products, by default the six, stacked on a last axis in this order."""
        return np.stack([getattr(self, name) for name in names], axis=-1)

    @classmethod
    def from_array(cls, array: ArrayLike) -> Gram:
        """The inverse of `to_array`: the last axis holds the first 6, 7 or 8 of `PRODUCTS`."""
        array = np.asarray(array, dtype=np.float64)
        least, most = len(FIELDS), len(PRODUCTS)
        if array.ndim == 0 or not least <= array.shape[-1] <= most:
            raise InvalidArgument(
                f"Gram.from_array expects a last axis of length {least} to {most} "
                f"({', '.join(PRODUCTS)}), got shape {array.shape}."
            )
        return cls(*np.moveaxis(array, -1, 0))

    @classmethod
    def stack(cls, grams: Iterable[Gram], axis: int = 0) -> Gram:
        """Stack Grams along a new axis, for example one for each step."""
        rows = list(grams)
        if not rows:
            raise InvalidArgument("Gram.stack expects at least one Gram, got none.")
        six = (np.stack([getattr(r, name) for r in rows], axis=axis) for name in FIELDS)
        others = ([r.wp for r in rows], [r.ws for r in rows])
        return cls(
            *six,
            *(None if all(map(is_unknown, xs)) else np.stack(xs, axis=axis) for xs in others),
        )

    def _of_each(self, of: Callable[[NDArray[np.float64]], ArrayLike]) -> Gram:
        """The Gram of a function of every product; what is unknown stays without memory."""
        six = (of(getattr(self, name)) for name in FIELDS)
        return Gram(*six, *(None if is_unknown(x) else of(x) for x in (self.wp, self.ws)))

    def __reduce__(self) -> tuple[type[Gram], tuple[NDArray[np.float64] | None, ...]]:
        # By way of the constructor, what is unknown is not copied and pickled number by number.
        six = (getattr(self, name) for name in FIELDS)
        return Gram, (*six, *(None if is_unknown(x) else x for x in (self.wp, self.ws)))


def unknown(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """NaN in this shape, read-only and in the memory of one number.

    >>> unknown((2, 1000)).strides
    (0, 0)
    """
    return np.broadcast_to(np.nan, shape)


def is_unknown(array: NDArray[np.float64]) -> bool:
    """Whether an array is that of `unknown`, or a part of it that is still without memory."""
    return array.size > 0 and not any(array.strides) and bool(np.isnan(array.flat[0]))
