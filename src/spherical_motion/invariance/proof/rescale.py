"""Multiplying a probe's weights along candidate symmetries, each by a factor."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.invariance.running import Prober, Weights
from spherical_motion.invariance.search import Symmetry


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
        return rescaled(prober.subject.perturbed(self.seed), self.inflated, scale)


@torch.no_grad()
def rescaled(weights: Weights, symmetries: Iterable[Symmetry], factors: Iterable[float]) -> Weights:
    """Multiply slices by the factors of their symmetries, in place; returns the same leaves.

    The factors of a tensor's rows are collected first, so that a layer of a thousand cells is
    multiplied once.
    """
    rows: dict[tuple[str, int], NDArray[np.float64]] = {}
    for symmetry, factor in zip(symmetries, factors, strict=True):
        for part, power in zip(symmetry.parts, symmetry.powers, strict=True):
            key = (part.parameter, part.axis)
            if key not in rows:
                rows[key] = np.ones(torch.atleast_1d(weights[part.parameter]).shape[part.axis])
            rows[key][part.start : part.stop] *= factor**power
    for (parameter, axis), by_row in rows.items():
        leaf = torch.atleast_1d(weights[parameter])
        shape = [-1 if d == axis else 1 for d in range(leaf.ndim)]
        leaf.mul_(torch.from_numpy(by_row).to(leaf).reshape(shape))
    return weights
