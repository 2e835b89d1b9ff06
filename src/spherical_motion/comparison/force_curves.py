"""What moves a group's norm along the run: its account in windows, ready to be drawn.

Source: wan2021, eq. 12, for weights that the loss does not pull and steps without momentum; here
for every weight (`theory.balance_law`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison.account import UNEXPLAINED, step_rates
from spherical_motion.comparison.motion import Motion
from spherical_motion.records.written import WRITTEN
from spherical_motion.theory.late_pull import STARTING_MEMORIES
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]

WINDOWS = 160
"""At most so many windows in a run, ..."""

MEMORIES = 8
"""... each of at least this many times 1/(1 - α) steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class ForceCurves:
    """What moves the norm of a group, in one window after another; arrays of shape (windows,).

    Rates are changes of |w| in a step, as a share of that step's |w|, averaged over the steps of a
    window, as `Forces` has them of now. Where the law holds, growth = turning - inward.

    Attributes:
        steps: where a window is drawn: its middle, and of the first and last of a stage the outer
            end, so that a change of the settings shows as a jump.
        first, last: its first and last step.
        lr: the mean learning rate.
        inward: by which decay and loss shorten the weights together.
        decay, loss: the two parts of it; NaN where they cannot be told apart.
        turning: by which turning lengthens the weights, less what the change of the
            preconditioner takes, where that was measured.
        growth: by which the norm really grew, whatever the law says.
        missing: growth without the parts: what they do not explain.
        early: whether the window lies in the start of its stage, which the sentences leave out.
    """

    steps: Array
    first: Array
    last: Array
    lr: Array
    inward: Array
    decay: Array
    loss: Array
    turning: Array
    growth: Array
    missing: Array
    early: NDArray[np.bool_]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Whether the parts of a window do not add up to its growth."""
        parts = np.abs([self.turning, self.inward, *np.nan_to_num([self.decay, self.loss])])
        return np.abs(self.missing) > UNEXPLAINED * parts.max(axis=0, initial=0.0) + WRITTEN

    def spans(self, chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """First and last step of each run of neighbouring windows among those chosen."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
        runs = edges.reshape(-1, 2)
        return [(int(self.first[a]), int(self.last[b - 1])) for a, b in runs]


_NONE = np.empty(0)
NO_CURVES = ForceCurves(
    _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE, np.empty(0, bool)
)
"""Those of a group of which the balance law says nothing."""


def forces_of(motion: Motion | None, stages: Sequence[Stage]) -> ForceCurves:
    """The curves of a group; empty arrays where the balance law says nothing."""
    if motion is None or motion.no_balance is not None:
        return NO_CURVES
    legal = motion[~motion.illegal]
    if not len(legal):
        return NO_CURVES
    account = _account_of(legal)
    told = account.known | legal.idle
    known, account = legal[told], account[told]
    pieces = _pieces(known, stages)
    starts = _window_starts(known, pieces)
    if not starts.size:
        return NO_CURVES
    counts = np.diff(starts, append=len(known))

    def means(values: Array) -> Array:
        return np.add.reduceat(values, starts) / counts

    turning, inward, growth = means(account.turning), means(account.inward), means(account.growth)
    return ForceCurves(
        steps=_places(known, pieces, starts, means(known.steps.astype(np.float64))),
        first=known.steps[starts].astype(np.float64),
        last=known.steps[starts + counts - 1].astype(np.float64),
        lr=means(known.lr),
        inward=inward,
        decay=means(account.decay),
        loss=means(account.loss),
        turning=turning,
        growth=growth,
        missing=growth - (turning - inward),
        early=_early(known, stages, starts, counts),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Account:
    """What `ForceCurves` has of windows, of each sample; arrays of shape (samples,)."""

    inward: Array
    decay: Array
    loss: Array
    turning: Array
    growth: Array

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where all of it is known but the parts that cannot be told apart."""
        return np.isfinite(self.turning + self.inward + self.growth)

    def __getitem__(self, index: NDArray[np.bool_]) -> _Account:
        return _Account(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def _account_of(motion: Motion) -> _Account:
    """The account of each sample; in steps that the optimizer skipped nothing pulls."""
    rates, gram = step_rates(motion), motion.gram
    in_step = (2.0 * gram.wd + gram.dd) / (2.0 * gram.ww)
    inward, loss = rates.inward, rates.loss
    if motion.prediction_error:  # a law that is approximate leaves the loss's own pull out
        inward, loss = rates.decay, np.zeros(len(motion))
    # What the law misses stands in the parts, so that they fail to give the growth.
    parts = (inward, rates.decay, loss, in_step + inward + rates.missed)
    return _Account(
        *(np.where(motion.idle, 0.0, part) for part in parts),
        growth=in_step + np.nan_to_num(motion.written),
    )


def _early(
    known: Motion, stages: Sequence[Stage], starts: NDArray[np.intp], counts: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether most of a window lies in the start of its stage."""
    middles = known.steps[starts + counts // 2]
    memory = STARTING_MEMORIES / (1.0 - known.momentum[starts])
    begun = np.array([stage.start for stage in stages])
    return middles - begun[np.searchsorted(begun, middles, side="right") - 1] < memory


def _pieces(known: Motion, stages: Sequence[Stage]) -> list[tuple[int, int]]:
    """First and last index of the stretches that no window leaves: stages, cut at long rests."""
    found: list[tuple[int, int]] = []
    for stage in stages:
        first, last = np.searchsorted(known.steps, [stage.start, stage.stop]).tolist()
        if last == first:
            continue
        resting = np.concatenate([[False], known.idle[first:last], [False]])
        ends = np.flatnonzero(np.diff(resting.astype(int))).reshape(-1, 2) + first
        least = MEMORIES / (1.0 - float(known.momentum[first:last].max()))
        lasted = known.steps[ends[:, 1] - 1] + 1 - known.steps[ends[:, 0]]
        cuts = np.unique([first, *ends[lasted >= least].ravel(), last]).tolist()
        found += list(itertools.pairwise(cuts))
    return found


def _window_starts(known: Motion, pieces: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    """Index of the first sample of each window."""
    found = [np.empty(0, np.intp)]
    for first, last in pieces:
        memory = MEMORIES / (1.0 - float(known.momentum[first:last].max()))
        most = int(WINDOWS * (last - first) / len(known))
        # A rest has two windows at least, so that it is drawn from its first step to its last.
        least = 2 if known.idle[first:last].all() else 1
        count = max(min(most, int((last - first) / memory)), least)
        found.append(np.linspace(first, last, count, endpoint=False).astype(np.intp))
    return np.concatenate(found)


def _places(
    known: Motion, pieces: Sequence[tuple[int, int]], starts: NDArray[np.intp], middles: Array
) -> Array:
    """Where each window is drawn."""
    places, ends = middles.copy(), np.append(starts[1:], len(known)) - 1
    opens = np.isin(starts, [first for first, _ in pieces])
    closes = np.isin(ends + 1, [last for _, last in pieces])
    # A window that is a stage by itself keeps its middle.
    places[opens & ~closes] = known.steps[starts[opens & ~closes]]
    places[closes & ~opens] = known.steps[ends[closes & ~opens]]
    return places
