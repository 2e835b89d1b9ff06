"""Gradients that are missing, and gradients that are the same as at the step before."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.laws.continuity import STEPS_KEPT
from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage

Mask = NDArray[np.bool_]

LASTING = 20
"""So many recorded steps in a row are a state and no chance, if all others are otherwise."""

CHANCE = 1e-6
"""A row of silent steps is a state if the share of silent steps elsewhere makes it so unlikely."""

LONGER = 2
"""It must also be so many times as long as any other: parts are used in turns, not by chance."""

SAME = 1e-9
"""How far <w, g> may be from what the same gradient gives, over |w||g|. Float64 sums leave 1e-16,
and another gradient with the same |g|², since all of its entries are clipped, 1e-3 and more."""


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
        dead_since, frozen_since: the step since which it lasts; None if it does not, or not for
            longer than the group's own earlier silence makes likely.
        rested: (first step, first step at which they moved again) of the longest stretch, not at
            the end, in which the weights stood still at a rate that is not 0; None if there is none
            that lasts.
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
    rested: tuple[int, int] | None = None
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
    here, earlier = motion.within(stage.start, stage.stop), motion.within(0, stage.start)
    if not len(here):
        return Silence()
    dead, frozen = _dead(here), here.gram.dd == 0.0
    at_rate = here.lr[frozen]
    moved_by = (here.gram.gg > 0) & (here.lr > 0)
    return Silence(
        samples=len(here),
        dead=float(dead.mean()),
        absent=float(here.idle.mean()),
        frozen=float(frozen.mean()),
        dead_since=_since(here.steps, dead, _dead(earlier)),
        frozen_since=_since(here.steps, frozen, earlier.gram.dd == 0.0),
        rested=_rested(here.steps, frozen & (here.lr != 0.0)),
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
        steps=tuple(here.steps[1:][same][:STEPS_KEPT].tolist()),
    )


def _dead(motion: Motion) -> Mask:
    return motion.idle | (motion.gram.gg == 0.0)


def _since(steps: NDArray[np.int64], state: Mask, earlier: Mask) -> int | None:
    """The step since which a state lasts to the end; None if it does not, or not for long.

    It is compared with the steps before it in the stage, and with those before the stage if all of
    the stage is in this state.
    """
    others = np.flatnonzero(~state)
    start = int(others[-1]) + 1 if others.size else 0
    return int(steps[start]) if _lasts(len(steps) - start, state[:start], earlier) else None


def _rested(steps: NDArray[np.int64], state: Mask) -> tuple[int, int] | None:
    """The longest stretch of a state that ended again, if it lasts."""
    starts, stops = _stretches(state)
    inside = stops < len(state)
    if not inside.any():
        return None
    longest = int(np.argmax(np.where(inside, stops - starts, 0)))
    start, stop = starts[longest], stops[longest]
    others = np.concatenate([state[:start], [False], state[stop:]])
    if not _lasts(int(stop - start), others, others):
        return None
    return int(steps[start]), int(steps[stop])


def _lasts(count: int, others: Mask, instead: Mask) -> bool:
    """Whether `count` steps in a row are more than the other steps make likely."""
    others = instead if others.all() else others
    if count < LASTING or others.all():
        return count >= LASTING
    starts, stops = _stretches(others)
    longest = int((stops - starts).max()) if len(starts) else 0
    return count >= LONGER * longest and float(others.mean()) ** count < CHANCE


def _stretches(state: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each stretch of a state begins, and the first place after it."""
    change = np.diff(state.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(change == 1), np.flatnonzero(change == -1)
