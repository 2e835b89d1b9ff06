"""Turn groups by a given angle, as a combination of the weights before a step and the step.

With w the weights before a step, d the step, and t = d - (<w,d>/<w,w>)·w its tangential part, the
weights on the sphere of radius r at angle Δ from w towards t are

    r·(cos Δ · w/|w| + sin Δ · t/|t|)  =  A·w + B·d,
    B = r·sin Δ/|t|,   A = r·cos Δ/|w| - B·<w,d>/<w,w>.

A and B are `Rotated.of_weights` and `Rotated.of_step`. They need three float64 sums a group. As
they combine w with d and not with w + d, no small number is the difference of large ones, and the
result is rounded only when the weights are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spherical_motion.binding import Members

RADIAL = 1e-12
"""|t|² below this share of |d|² is rounding of a radial step, such as weight decay alone makes."""

LOST = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
"""|t| below this share of |w| is rounding of the stored weights: no direction is left in it."""


class Rotated(NamedTuple):
    """Coefficients of the new weights, of_weights·w + of_step·d; (groups,), float64."""

    of_weights: Tensor
    of_step: Tensor


def coefficients(
    ww: Tensor, wd: Tensor, dd: Tensor, angle: Tensor, radius: Tensor, turns: Tensor, lost: Tensor
) -> Rotated:
    """How to turn each group; the reference for the compiled loops.

    * A group of norm 0, without a step, or with a step that is not finite is left as it is, to the
      bit (A = B = 1).
    * Without a tangential part, or with one entry (`turns` False), the weights stay where they were
      (B = 0), on their radius.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> A, B = coefficients(one, -0.1 * one, 0.05 * one, 0.2 * one, one, one > 0, 1e-7 * one)
    >>> round(float(A + 0.1 * -B), 6), round(float(B) * 0.2, 6)         # cos and sin of 0.2
    (0.980067, 0.198669)
    """
    tangential = dd - wd * wd / ww
    turning = turns & (tangential > lost.square() * ww) & (tangential > RADIAL * dd)
    length = torch.where(turning, tangential, torch.ones_like(tangential)).sqrt()
    b = torch.where(turning, radius * angle.sin() / length, torch.zeros_like(dd))
    cosine = torch.where(turning, angle.cos(), torch.ones_like(angle))
    a = radius * cosine / ww.sqrt() - b * wd / ww
    left = ~((ww > 0) & (dd != 0) & torch.isfinite(dd) & torch.isfinite(wd) & torch.isfinite(ww))
    return Rotated(a.masked_fill(left, 1.0), b.masked_fill(left, 1.0))


class TorchRotation:
    """Rotation in torch operations, on any device, without waiting for it.

    Both (groups,): `turns` says which groups have a direction to turn to; for `lost` see `LOST`.
    """

    def __init__(self, members: Members, turns: Tensor, lost: Tensor) -> None:
        self._members, self._turns, self._lost = members, turns, lost

    @torch.no_grad()
    def __call__(self, before: Sequence[Tensor], angle: Tensor, radius: Tensor) -> None:
        """Replace the members' weights by `before`, turned towards them.

        Angle (radians) and radius are (groups,), float64. Zero radii become the norms of `before`.
        """
        members = self._members
        weights = [p.detach() for p in members.parameters]
        steps = [w - old for w, old in zip(weights, before, strict=True)]
        pairs = ((before, before), (before, steps), (steps, steps))
        ww, wd, dd = (members.sums(a, b) for a, b in pairs)
        radius.copy_(torch.where(radius > 0, radius, ww.sqrt()))
        rotated = coefficients(ww, wd, dd, angle, radius, self._turns, self._lost)
        tensors = zip(members.rows, weights, before, steps, strict=True)
        for i, (rows, w, old, d) in enumerate(tensors):
            # Rows of no group keep the optimizer's values, to the bit.
            kept = [view.clone() for view in rows.free_views(w)]
            w.copy_(old).mul_(members.spread(rotated.of_weights, i, fill=1.0).to(w.dtype))
            w.addcmul_(d, members.spread(rotated.of_step, i, fill=1.0).to(w.dtype))
            for view, value in zip(rows.free_views(w), kept, strict=True):
                view.copy_(value)

    def close(self) -> None:
        """Do nothing: there are no threads."""
