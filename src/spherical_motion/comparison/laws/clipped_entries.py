"""Entries of the gradient that were clipped one by one, as by `clip_grad_value_`.

Every gradient has a largest entry, and some have two or three of one size by chance: the two rows
of a head for two classes, equal features of the input, numbers in half precision. Only a clip makes
several entries sit at the largest size, and at the same number in one step after the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from spherical_motion.records import AuditSeries

FEWEST_ENTRIES = 3
"""So many entries of exactly the largest size in one tensor are no symmetry of two."""

FEWEST_STEPS = 3
"""Fewer steps at one limit are too few by themselves: another tensor must sit at it, too. Of
gradients with 8 bits, one in 128 repeats the largest size of the step before."""

Limits = frozenset[tuple[int, float]]
"""(step, size) at which several tensors have several largest entries each."""


class ClippedEntries(NamedTuple):
    """The limit, NaN if there is none, the share of the last steps at it, the first step at it."""

    limit: float = math.nan
    share: float = 0.0
    since: int | None = None


def shared_limits(audits: AuditSeries) -> Limits:
    """Sizes at which several tensors sit in one step: one clip serves all of them."""
    many = audits.at_peak >= FEWEST_ENTRIES
    pairs = np.stack([audits.step[many].astype(np.float64), audits.largest[many]], axis=1)
    found, count = np.unique(pairs, axis=0, return_counts=True)
    return frozenset((int(step), size) for step, size in found[count > 1].tolist())


def limit_of_entries(series: AuditSeries, shared: Limits) -> ClippedEntries:
    """Where entries of one tensor are clipped in its audited steps.

    What is judged is the last burst of neighbouring audited steps, so that a clip that began late
    is found, and one that only the first steps reached is none.

    Args:
        series: rows of one parameter, in order.
        shared: `shared_limits` of the run.
    """
    known = np.isfinite(series.largest) & (series.largest > 0.0)
    steps, size = series.step[known], series.largest[known]
    count, peak = series.at_peak[known], series.peak[known]
    bursts = np.split(np.arange(len(steps)), np.flatnonzero(np.diff(steps) > 1) + 1)
    last = max((burst for burst in bursts if len(burst) > 1), key=lambda b: b[-1], default=None)
    if last is None:
        return ClippedEntries()
    at = last[count[last] >= FEWEST_ENTRIES]
    if not at.size:
        return ClippedEntries()
    sizes, repeats = np.unique(size[at], return_counts=True)
    limit = float(sizes[repeats.argmax()])
    at_limit = (size == limit) & (count >= FEWEST_ENTRIES)
    together = any((int(step), limit) in shared for step in steps[last][at_limit[last]])
    # All entries of one size, for ever, are what the sign of an error gives a bias.
    alone = at_limit.sum() >= FEWEST_STEPS and bool((peak[at_limit] < 1.0).any())
    if repeats.max() < 2 or not (together or alone):
        return ClippedEntries()
    share = float(at_limit[last].mean())
    return ClippedEntries(limit, share, int(steps[at_limit][0]))
