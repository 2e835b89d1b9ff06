"""Stages: stretches of a run in which the settings are constant, or vary throughout."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion.vocabulary.hyperparameters import HyperParameters

SHORTEST_STAGE = 20
"""Consecutive runs of constant settings with fewer steps merge into one varying stage."""

FEWEST_STAIRS = 5
"""At least so many runs of one length make a staircase ..."""

STAIR_TOLERANCE = 0.1
"""... if their lengths differ by at most this share ..."""

TALLEST_STAIR = 1.5
"""... and the median change of the settings is below this factor: ÷10 every 30 epochs is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """Steps `start:stop` with constant settings `hp`; `hp` is None where settings vary."""

    start: int
    stop: int
    hp: HyperParameters | None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.stop - self.start

    @property
    def settings(self) -> str:
        """Its settings in words, like "lr 0.1, weight decay 0.01, momentum 0.9"."""
        if self.hp is None:
            return "settings vary"
        words = f"lr {self.hp.lr:g}, weight decay {self.hp.weight_decay:g}"
        if self.hp.beta2 is not None:
            return words + f", betas {self.hp.momentum:g} and {self.hp.beta2:g}"
        return words + (f", momentum {self.hp.momentum:g}" if self.hp.momentum else "")


def constant_runs(settings: NDArray[np.float64]) -> list[tuple[int, int, bool]]:
    """(start, stop, whether it is part of a varying stage) of each run of constant settings.

    `settings` are lr, weight decay and momentum at each step, shape (3, steps).
    """
    changes = np.flatnonzero((settings[:, 1:] != settings[:, :-1]).any(axis=0)) + 1
    edges = np.array([0, *changes.tolist(), settings.shape[1]])
    short = (np.diff(edges) < SHORTEST_STAGE) & (len(edges) > 2)  # one run alone does not vary
    varying = short | _staircases(edges, settings[:2, edges[:-1]])
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), varying.tolist(), strict=True))


def _staircases(edges: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which runs belong to a staircase; `values`, shape (2, runs): lr and weight decay of each."""
    lengths = np.diff(edges)
    found = np.zeros(lengths.shape, dtype=bool)
    first = 0
    while first < len(lengths):
        alike = np.abs(lengths[first:] / lengths[first] - 1.0) <= STAIR_TOLERANCE
        count = len(alike) if alike.all() else int(np.argmin(alike))
        if count >= FEWEST_STAIRS:
            steps = values[:, first : first + count]
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios = np.abs(np.log(steps[:, 1:] / steps[:, :-1])).max(axis=0)
            if np.median(ratios) < np.log(TALLEST_STAIR):
                found[first : first + count] = True
                # The first and the last stair may be cut short.
                found[max(first - 1, 0)] |= bool(lengths[max(first - 1, 0)] < lengths[first])
                after = min(first + count, len(lengths) - 1)
                found[after] |= bool(lengths[after] < lengths[first])
        first += count
    return found
