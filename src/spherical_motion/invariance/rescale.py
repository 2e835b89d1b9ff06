"""Moving a probe's weights along candidate symmetries: cells times factors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.invariance.probe import Prober, Weights
from spherical_motion.vocabulary.groups import Cell

__all__ = ["Base", "scale_cells", "scale_rows"]


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """The point at which candidates are rescaled: a probe, with some cells made larger.

    Attributes:
        seed: of the probe's noise and of the randomness inside the model.
        inflated: cells whose norm has an ε that could not be removed; enlarging them drowns it.
        inflation: the factor by which they are enlarged.
    """

    seed: int
    inflated: tuple[Cell, ...] = ()
    inflation: float = 1.0

    def weights(self, prober: Prober) -> Weights:
        """Fresh leaves at this point."""
        scale = [self.inflation] * len(self.inflated)
        return scale_cells(prober.perturbed(self.seed), self.inflated, scale)


def scale_cells(weights: Weights, cells: Iterable[Cell], factors: Iterable[float]) -> Weights:
    """Multiply each cell by its factor, in place; returns the same leaves."""
    parts: dict[tuple[str, int], list[tuple[int, int, float]]] = {}
    for cell, factor in zip(cells, factors, strict=True):
        for part in cell:
            key = (part.parameter, part.axis)
            parts.setdefault(key, []).append((part.start, part.stop, factor))
    for (parameter, axis), ranges in parts.items():
        leaf = weights[parameter]
        scale = np.ones(leaf.shape[axis] if leaf.ndim else 1)
        for start, stop, factor in ranges:
            scale[start:stop] *= factor
        scale_rows(leaf, axis, scale)
    return weights


@torch.no_grad()
def scale_rows(leaf: Tensor, axis: int, factors: NDArray[np.float64]) -> None:
    """Multiply the rows of a tensor along `axis` by `factors`, in place."""
    shape = [-1 if d == axis else 1 for d in range(leaf.ndim)]
    leaf.mul_(torch.from_numpy(factors).to(leaf).reshape(shape))
