"""Whether outputs changed by more than rounding explains."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spherical_motion.invariance.proof.rescale import Base
from spherical_motion.invariance.running import Prober

NUDGE = 8.0
"""Weights are moved by this many units of their last place."""

MARGIN = 100.0
"""A rescaling rounds in many places; what it may change is this times what a nudge does."""

LIMIT = 1e-2
"""With more, a false group, which moves the outputs by 1e-4 and more, is lost in the noise."""

NEGLIGIBLE = 1e-6
"""An output below this share of the largest one is made of rounding errors."""


def relative_change(outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Largest |difference| of an output tensor, relative to the largest entry of its reference.

    A tensor that is all but zero beside the others (the mean of a normalized output) is judged on
    `NEGLIGIBLE` times their scale. A change to NaN or of shape is infinite.

    >>> relative_change([torch.tensor([1.0, 2.5])], [torch.tensor([1.0, 2.0])])
    0.25
    """
    if [y.shape for y in outputs] != [y.shape for y in reference]:
        return math.inf
    scales = [float(y.abs().max()) for y in reference]
    floor = NEGLIGIBLE * max(scales, default=0.0)
    worst = 0.0
    for y, y0, scale in zip(outputs, reference, scales, strict=True):
        change = float(torch.where(y == y0, 0.0, y - y0).abs().max())
        relative = change / max(scale, floor) if change and max(scale, floor) else change
        worst = max(worst, math.inf if math.isnan(relative) else relative)
    return worst


class Steadiness:
    """The largest change of the outputs that rounding explains, found with one forward pass.

    A plain network of fifty layers multiplies a rounding error by 10¹⁰, and one that is not
    deterministic differs from run to run. The pass runs when a change first seems too large.
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
        return max(precision.change, MARGIN * relative_change(outputs, self._reference))

    @property
    def steady(self) -> bool:
        """Whether rounding moves the outputs so little that they prove something."""
        return self.tolerance <= LIMIT

    def moved(self, outputs: Sequence[Tensor], reference: Sequence[Tensor] | None = None) -> bool:
        """Whether outputs differ from the reference (at the base, if None) by more than rounding.

        False where the outputs prove nothing.
        """
        change = relative_change(outputs, self._reference if reference is None else reference)
        if change <= self._prober.precision.change:
            return False
        return self.steady and change > self.tolerance
