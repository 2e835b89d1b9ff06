"""What is kept of a weight and its gradient: three sums for each row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Evidence", "Reducer", "RowSums", "sums_by_row", "stacked"]

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
        """‖w_i‖‖g_i‖, what |t_i| is compared with."""
        return np.sqrt(self.ww * self.gg)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.t.shape[-1]

    @classmethod
    def stack(cls, probes: Sequence[RowSums]) -> RowSums:
        """Several probes of the same rows, as arrays of shape (probes, rows)."""
        t, ww, gg = (np.stack([getattr(p, name) for p in probes]) for name in ("t", "ww", "gg"))
        return cls(t, ww, gg, probes[0].entries)


Evidence: TypeAlias = Mapping[str, tuple[RowSums, ...]]
"""Parameter name → its row sums along axis 0 and, where there is one, axis 1."""


def stacked(probes: Sequence[Evidence]) -> Evidence:
    """Row sums of several backward passes as arrays of shape (probes, rows)."""
    return {
        name: tuple(RowSums.stack(axis) for axis in zip(*(p[name] for p in probes), strict=True))
        for name in probes[0]
    }


class Reducer:
    """A post-accumulate hook: sums the gradient by rows and frees it."""

    def __init__(self, name: str, sums: dict[str, list[Tensor]]) -> None:
        self.name = name
        self.sums = sums

    def __call__(self, leaf: Tensor) -> None:
        assert leaf.grad is not None
        gradient = leaf.grad if leaf.grad.layout == torch.strided else leaf.grad.to_dense()
        self.sums[self.name] = sums_by_row(leaf.detach(), gradient.detach())
        leaf.grad = None


def sums_by_row(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    """For axis 0, and axis 1 if there is one: the float64 rows (⟨w,g⟩, ‖w‖², ‖g‖²), (3, rows).

    A stretch of rows at a time: products as large as the tensor would raise the peak of memory.
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
