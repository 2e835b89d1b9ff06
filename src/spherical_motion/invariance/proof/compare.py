"""Whether two runs of a model gave the same outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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


def same_bits(outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> bool:
    """Whether no entry of any output differs at all."""
    return len(outputs) == len(reference) and all(map(torch.equal, outputs, reference))
