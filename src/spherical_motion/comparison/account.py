"""The account of a norm, step by step: what pulled it in, what pushed it out, and its growth.

The balance law at a step (`theory.balance_law`), divided by 2|w|² and by the weight that growth has
in it, says by which share of itself |w| changed:

    growth = turning - decay - loss.

Turning has in it what momentum carries over from the step before, -β/(1-β)·(G_t - G_{t-1}), which
sums to next to nothing over many steps, and the change of the preconditioner where it was measured.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion

Array = NDArray[np.float64]

STARTING_MEMORIES = 5
"""A stage's first steps are left out, this many times 1/(1 - α) of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """Changes of |w| in a step as shares of |w|, of shape (samples,); NaN where unknown.

    Attributes:
        inward: by which weight decay and the loss shorten the weights together.
        decay, loss: its two parts; NaN where they cannot be told apart.
        turning: by which the steps lengthen the weights because they point sideways.
        growth: by which the norm grew since the end of the step before, whatever the law says; a
            write between two steps is in it, so that the parts do not add up to it.
    """

    inward: Array
    decay: Array
    loss: Array
    turning: Array
    growth: Array

    def __getitem__(self, index: slice | NDArray[np.bool_]) -> Account:
        return Account(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def account_of(motion: Motion) -> Account:
    """The account of each sample of a group."""
    gram, steps = motion.gram, motion.steps
    # The first step of a run finds nothing that momentum could carry over.
    share = np.where(steps == 0, 1.0, motion.growth_share)

    def rate(part: Array) -> Array:
        return part / (share * 2.0 * gram.ww)

    told_apart = np.isfinite(motion.decay)
    inward = rate(motion.loss + np.where(told_apart, motion.decay, 0.0))
    in_step = (2.0 * gram.wd + gram.dd) / (2.0 * gram.ww)
    change = np.where(np.isfinite(motion.change), motion.change, 0.0)
    between = np.zeros(len(motion))
    after = np.sqrt(gram.ww + 2.0 * gram.wd + gram.dd)
    adjacent = np.diff(steps) == 1
    between[1:][adjacent] = np.log(motion.norm[1:] / after[:-1])[adjacent]
    return Account(
        inward=inward,
        decay=rate(motion.decay),
        loss=np.where(told_apart, rate(motion.loss), np.nan),
        turning=rate(motion.turned - motion.grown - change) + in_step,
        growth=in_step + between,
    )
