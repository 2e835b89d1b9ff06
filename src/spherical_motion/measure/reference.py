"""The six inner products as they are defined: slow, obvious, and what every backend must match."""

from __future__ import annotations

import math

import torch

from spherical_motion.vocabulary.gram import Gram


def gram(before: torch.Tensor, after: torch.Tensor, grad: torch.Tensor | None) -> Gram:
    """Inner products of weights, step and gradient, row by row, in float64; see `measure.gram`.

    >>> w = torch.tensor([[3.0, 4.0]])
    >>> d = torch.tensor([[0.0, 1.0]])
    >>> gram(w, w + d, grad=-d)
    Gram(ww=array([25.]), wd=array([4.]), dd=array([1.]),
         wg=array([-4.]), gg=array([1.]), dg=array([-1.]))
    """
    w, d = _rows(before), _rows(after) - _rows(before)
    ww, wd, dd = (w * w).sum(1), (w * d).sum(1), (d * d).sum(1)
    if grad is None:
        wg = gg = dg = torch.full_like(ww, math.nan)
    else:
        g = _rows(grad)
        wg, gg, dg = (w * g).sum(1), (g * g).sum(1), (d * g).sum(1)
    return Gram(ww=ww, wd=wd, dd=dd, wg=wg, gg=gg, dg=dg)


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """As a float64 matrix (rows, entries)."""
    return tensor.detach().double().reshape(tensor.shape[0], math.prod(tensor.shape[1:]))
