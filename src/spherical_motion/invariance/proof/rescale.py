"""Multiplying a probe's weights along candidate symmetries, each by a factor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.invariance.running import Prober, Weights
from spherical_motion.invariance.search import Symmetry

RowFactors: TypeAlias = dict[tuple[str, int], NDArray[np.float64]]
"""(parameter, axis) → a factor for each row, from the first on; further rows stay as they are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """The point at which candidates are rescaled: a probe, with some slices made larger.

    Attributes:
        seed: of the probe's noise and of the randomness inside the model.
        inflated: slices whose norm has an ε that could not be removed; beside enlarged slices it is
            below rounding.
        inflation: the factor by which they are enlarged.
    """

    seed: int
    inflated: tuple[Symmetry, ...] = ()
    inflation: float = 1.0

    def weights(self, prober: Prober) -> Weights:
        """Fresh leaves at this point."""
        scale = [self.inflation] * len(self.inflated)
        return rescaled(prober.subject.perturbed(self.seed), row_factors(self.inflated, scale))


def row_factors(symmetries: Iterable[Symmetry], factors: Iterable[float]) -> RowFactors:
    """The product of the factors that act on each row."""
    parts: dict[tuple[str, int], list[tuple[int, int, float]]] = {}
    for symmetry, factor in zip(symmetries, factors, strict=True):
        for part, power in zip(symmetry.parts, symmetry.powers, strict=True):
            key = (part.parameter, part.axis)
            parts.setdefault(key, []).append((part.start, part.stop, factor**power))
    rows: RowFactors = {}
    for key, ranges in parts.items():
        rows[key] = np.ones(max(stop for _, stop, _ in ranges))
        for start, stop, factor in ranges:
            rows[key][start:stop] *= factor
    return rows


def rescaled(weights: Weights, factors: RowFactors) -> Weights:
    """Multiply rows by their factors, in place; returns the same leaves."""
    for (parameter, axis), scale in factors.items():
        leaf = weights[parameter]
        rows = np.ones(leaf.shape[axis] if leaf.ndim else 1)
        rows[: scale.size] = scale
        _multiply_rows(leaf, axis, rows)
    return weights


@torch.no_grad()
def _multiply_rows(leaf: Tensor, axis: int, factors: NDArray[np.float64]) -> None:
    """Multiply the rows of a tensor along `axis` by `factors`, in place."""
    shape = [-1 if d == axis else 1 for d in range(leaf.ndim)]
    leaf.mul_(torch.from_numpy(factors).to(leaf).reshape(shape))
