"""Gradients that are missing, and gradients that are the same as at the step before."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage

Mask = NDArray[np.bool_]

LASTING = 20
"""So many recorded steps in a row, up to the end of the stage, are a state and no chance. A filter
that half of the batches leave without a gradient is silent so long once in a million steps."""

SAME = 1e-9
"""How far <w, g> may be from what the same gradient gives, over |w||g|. Float64 sums leave 1e-16,
and another gradient with the same |g|², since all of its entries are clipped, 1e-3 and more."""

NAMED = 5
"""So many steps are named."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Where one group in one stage had no gradient, or did not move.

    A step is dead if there is no gradient or all of it is 0, and frozen if the weights did not
    change at all. "since" steps are those from which this lasts to the end of the stage.

    Attributes:
        samples: recorded steps of the stage.
        dead: share of them without a gradient.
        absent: share at which the gradient was not there (None), a part of `dead`.
        frozen: share at which the weights did not change.
        dead_since, frozen_since: the step since which it lasts; None if it does not, or for too few
            steps.
        absent_at_end: whether there is no gradient (None) at the end, and not one of zeros.
        rate_is_zero: share of the frozen steps whose learning rate is 0.
        gradient_while_frozen: share of the frozen steps that had a gradient and a rate.
    """

    samples: int = 0
    dead: float = math.nan
    absent: float = math.nan
    frozen: float = math.nan
    dead_since: int | None = None
    frozen_since: int | None = None
    absent_at_end: bool = False
    rate_is_zero: float = math.nan
    gradient_while_frozen: float = math.nan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Neighbouring steps of one group that were made with the very same gradient.

    Attributes:
        pairs: neighbouring steps with gradients whose weights differ.
        same: those with one gradient: |g|² agrees to the last bit, and <w, g> has changed by the
            step times that gradient.
        steps: the first few of the later ones.
    """

    pairs: int = 0
    same: int = 0
    steps: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        """`same` over `pairs`; NaN without pairs."""
        return self.same / self.pairs if self.pairs else math.nan


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def silence(motion: Motion, stage: Stage) -> Silence:
    """Where a group had no gradient or did not move.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
    """
    here = motion.within(stage.start, stage.stop)
    if not len(here):
        return Silence()
    dead, frozen = here.idle | (here.gram.gg == 0.0), here.gram.dd == 0.0
    at_rate = here.lr[frozen]
    moved_by = (here.gram.gg > 0) & (here.lr > 0)
    return Silence(
        samples=len(here),
        dead=float(dead.mean()),
        absent=float(here.idle.mean()),
        frozen=float(frozen.mean()),
        dead_since=_since(here.steps, dead),
        frozen_since=_since(here.steps, frozen),
        absent_at_end=bool(here.idle[-1]),
        rate_is_zero=float((at_rate == 0.0).mean()) if at_rate.size else math.nan,
        gradient_while_frozen=float(moved_by[frozen].mean()) if at_rate.size else math.nan,
    )


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def stale(motion: Motion, stage: Stage) -> Stale:
    """Where a group was stepped twice with one gradient.

    One number of 53 bits repeats by chance only where few values are possible, as of a gradient
    whose entries are all clipped. The same gradient has <w_t, g> = <w + d, g>_{t-1}, too.

    Args:
        motion: the group's whole run.
        stage: the steps to look at; its first step is compared with the step before.
    """
    here = motion.within(stage.start - 1, stage.stop)
    if motion.group.numel < 2 or len(here) < 2:
        return Stale()
    gram, sizes = here.gram, here.gram.gg
    known = np.isfinite(sizes) & (sizes > 0)
    # Of weights that did not move, the same batch gives the same gradient.
    pairs = (np.diff(here.steps) == 1) & known[1:] & known[:-1] & (gram.dd[:-1] > 0)
    with np.errstate(invalid="ignore"):
        apart = np.abs(gram.wg[1:] - (gram.wg + gram.dg)[:-1])
        same = apart <= SAME * np.sqrt(gram.ww * sizes)[1:]
    same &= pairs & (sizes[1:] == sizes[:-1])
    return Stale(
        pairs=int(pairs.sum()),
        same=int(same.sum()),
        steps=tuple(here.steps[1:][same][:NAMED].tolist()),
    )


def _since(steps: NDArray[np.int64], state: Mask) -> int | None:
    """The step since which a state lasts to the end; None if it does not, or not for long."""
    others = np.flatnonzero(~state)
    start = int(others[-1]) + 1 if others.size else 0
    return int(steps[start]) if len(steps) - start >= LASTING else None
