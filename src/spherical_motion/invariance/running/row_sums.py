"""Three sums for each row: all that the search keeps of a weight and its gradient."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRETCH = 2**20
"""Entries multiplied at a time when a gradient is reduced to row sums."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowSums:
    """Inner products of a parameter's rows along one axis; arrays of shape (..., rows).

    Attributes:
        t: ⟨w_i, g_i⟩.
        ww: ‖w_i‖².
        gg: ‖g_i‖².
        entries: number of entries in one row.
    """

    t: NDArray[np.float64]
    ww: NDArray[np.float64]
    gg: NDArray[np.float64]
    entries: int

    @property
    def size(self) -> NDArray[np.float64]:
        """‖w_i‖‖g_i‖, the bound of |t_i|."""
        return np.sqrt(self.ww * self.gg)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.t.shape[-1]


Evidence: TypeAlias = Mapping[str, tuple[RowSums, ...]]
"""Parameter name → its row sums along axis 0 and, where there is one, axis 1."""


def stacked(probes: Sequence[Evidence]) -> Evidence:
    """Row sums of several backward passes as arrays of shape (probes, rows)."""

    def stack(*rows: RowSums) -> RowSums:
        t, ww, gg = (np.stack([getattr(r, name) for r in rows]) for name in ("t", "ww", "gg"))
        return RowSums(t, ww, gg, rows[0].entries)

    return {name: tuple(map(stack, *(probe[name] for probe in probes))) for name in probes[0]}


Gradients: TypeAlias = dict[str, list[Tensor]]
"""Parameter name → for each axis the sums of its rows, see `_sums_by_row`."""


class GradientSums:
    """While entered, sums each leaf's gradient by rows as soon as it is there, and frees it."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._sums: Gradients = {}
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> GradientSums:
        for name, leaf in self._weights.items():
            reduce = functools.partial(self._reduce, name)
            handle = leaf.requires_grad_().register_post_accumulate_grad_hook(reduce)
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def take(self) -> Gradients:
        """The sums of the backward that has just ended; the next one starts afresh."""
        taken, self._sums = self._sums, {}
        return taken

    def evidence(self, taken: Gradients) -> Evidence:
        """The same as arrays, with zeros for parameters that had no gradient."""
        rows: dict[str, tuple[RowSums, ...]] = {}
        for name, leaf in self._weights.items():
            reduced = taken.get(name) or _sums_by_row(leaf.detach(), torch.zeros_like(leaf))
            rows[name] = tuple(
                RowSums(*per_axis.cpu().numpy(), entries=leaf.numel() // max(1, per_axis.shape[1]))
                for per_axis in reduced
            )
        return rows

    def _reduce(self, name: str, leaf: Tensor) -> None:
        assert leaf.grad is not None
        gradient = leaf.grad if leaf.grad.layout == torch.strided else leaf.grad.to_dense()
        self._sums[name] = _sums_by_row(leaf.detach(), gradient.detach())
        leaf.grad = None


def _sums_by_row(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    """For axis 0, and axis 1 if there is one: the float64 rows (⟨w,g⟩, ‖w‖², ‖g‖²), (3, rows).

    Some rows at a time: products as large as the tensor would raise the peak of memory.
    """
    weight, gradient = torch.atleast_1d(weight), torch.atleast_1d(gradient)
    step = max(1, STRETCH * len(weight) // max(1, weight.numel()))
    parts = []
    for w, g in zip(weight.split(step), gradient.split(step), strict=True):
        w, g = (x.to(torch.float64) for x in (w, g))
        parts.append([_axis_sums(x * y) for x, y in ((w, g), (w, w), (g, g))])
    first = torch.cat([torch.stack([axes[0] for axes in part]) for part in parts], dim=1)
    if weight.ndim == 1:
        return [first]
    return [first, torch.stack([torch.stack([axes[1] for axes in p]) for p in parts]).sum(dim=0)]


def _axis_sums(product: Tensor) -> list[Tensor]:
    if product.ndim == 1:
        return [product]
    columns = product.flatten(2).sum(dim=2) if product.ndim > 2 else product
    return [columns.sum(dim=1), columns.sum(dim=0)]
