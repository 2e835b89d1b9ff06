"""Turning groups by a given angle: which combination of two points of a path does it.

With w the weights before a step, d the step, and t = d - (<w,d>/<w,w>)·w its tangential part, the
weights on the sphere of radius r at angle Δ from w towards t are

    r·(cos Δ · w/|w| + sin Δ · t/|t|)  =  A·w + B·d,
    B = r·sin Δ/|t|,   A = r·cos Δ/|w| - B·<w,d>/<w,w>.

A and B are the `of_weights` and the `of_step` of a `Rotated`.

Three sums a group are all it takes. They are float64; combined with d and not with w + d, the
small numbers are never the difference of large ones, and rounding of the result is that of storing
the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spherical_motion.binding import Members

RADIAL = 1e-12
"""|t|² below this share of |d|² is rounding of a radial step, as weight decay alone makes it."""

LOST = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}
"""|t| below this share of |w| is rounding of the stored weights: no direction is left in it."""


class Rotated(NamedTuple):
    """Coefficients of the new weights, of_weights·w + of_step·d, shape (groups,), float64."""

    of_weights: Tensor
    of_step: Tensor


def coefficients(
    ww: Tensor, wd: Tensor, dd: Tensor, angle: Tensor, radius: Tensor, turns: Tensor, lost: Tensor
) -> Rotated:
    """How to turn each group; the reference for the compiled loops.

    * a group of norm 0, one that was not stepped at all, or a step that is not finite is left as
      it is, to the bit (A = B = 1);
    * without a tangential part, or where there is nothing to turn (`turns` False: one entry), the
      weights stay where they were (B = 0), on their radius.

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

    Args:
        members: what is turned.
        turns: (groups,) bool, whether a group has a direction to turn to.
        lost: (groups,), see `LOST`.
    """

    def __init__(self, members: Members, turns: Tensor, lost: Tensor) -> None:
        self._members, self._turns, self._lost = members, turns, lost

    @torch.no_grad()
    def __call__(self, before: Sequence[Tensor], angle: Tensor, radius: Tensor) -> None:
        """Replace the members' weights by those turned from `before`.

        Args:
            before: one tensor for each of `members.parameters`.
            angle: (groups,), float64, radians.
            radius: (groups,), float64. Where it is 0 it is set to the norm the group now has.
        """
        members = self._members
        weights = [p.detach() for p in members.parameters]
        steps = [w - old for w, old in zip(weights, before, strict=True)]
        ww, wd, dd = (
            members.sums(before, before),
            members.sums(before, steps),
            members.sums(steps, steps),
        )
        norm = ww.sqrt()
        radius.copy_(torch.where(radius > 0, radius, norm))
        rotated = coefficients(ww, wd, dd, angle, radius, self._turns, self._lost)
        for i, (rows, w, old, d) in enumerate(
            zip(members.rows, weights, before, steps, strict=True)
        ):
            # Rows of no group keep, to the bit, what the optimizer gave them.
            kept = [view.clone() for view in rows.free_views(w)]
            w.copy_(old).mul_(members.spread(rotated.of_weights, i, fill=1.0).to(w.dtype))
            w.addcmul_(d, members.spread(rotated.of_step, i, fill=1.0).to(w.dtype))
            for view, value in zip(rows.free_views(w), kept, strict=True):
                view.copy_(value)

    def close(self) -> None:
        """Nothing to let go of."""
