"""How much of a change in the outputs rounding alone explains."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from spherical_motion.invariance.proof.compare import relative_change
from spherical_motion.invariance.proof.rescale import Base
from spherical_motion.invariance.running import Prober

NUDGE = 8.0
"""Weights are moved by this many units of their last place."""

MARGIN = 100.0
"""A rescaling rounds in many places; what it may change is this times what a nudge does."""

LIMIT = 1e-2
"""With more, a false group, which moves the outputs by 1e-4 and more, is lost in the noise."""


class Steadiness:
    """The largest change of the outputs that rounding explains, found with one forward pass.

    A plain network of fifty layers multiplies a rounding error by 10¹⁰, and one that is not
    deterministic differs from run to run. The pass runs when the tolerance is first needed: when
    a change seems too large.
    """

    def __init__(self, prober: Prober, base: Base, reference: tuple[Tensor, ...]) -> None:
        self._prober = prober
        self._base = base
        self._reference = reference

    @functools.cached_property
    def tolerance(self) -> float:
        """Relative change of an output that still counts as rounding."""
        precision = self._prober.precision
        weights = self._base.weights(self._prober)
        generator = torch.Generator().manual_seed(self._base.seed)
        step = NUDGE * torch.finfo(precision.dtype).eps
        for leaf in weights.values():
            # One sign for each entry would take as long as the pass itself.
            rows = torch.atleast_1d(leaf)
            sign = torch.randint(2, rows.shape[:1], generator=generator) * 2.0 - 1.0
            rows.mul_(1.0 + step * sign.to(leaf).reshape(-1, *[1] * (rows.ndim - 1)))
        outputs = self._prober.forward(weights, seed=self._base.seed, norm_eps=precision.norm_eps)
        return max(precision.change, MARGIN * self.change(outputs))

    @property
    def steady(self) -> bool:
        """Whether rounding moves the outputs so little that they prove something."""
        return self.tolerance <= LIMIT

    def change(self, outputs: tuple[Tensor, ...]) -> float:
        """Relative change of the outputs from those at the base."""
        return relative_change(outputs, self._reference)

    def moved(self, change: float) -> bool:
        """Whether a change is more than rounding; False where the outputs prove nothing."""
        if change <= self._prober.precision.change:
            return False
        return self.steady and change > self.tolerance
