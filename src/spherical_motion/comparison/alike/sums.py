"""Sums, means and ratios over the last samples of many groups at once.

Arrays have shape (groups, steps). A window is all samples from `first` on: one number for all
groups, or one each. With one number the sums are numpy's own of each row, to the last bit; with one
each they are added in another order, which leaves 1e-15.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from spherical_motion.estimates import (
    FEWEST_BATCHES,
    FEWEST_PAIRED,
    LEAST_FREEDOM,
    MOST_BATCHES,
    MOST_CORRELATED_BATCHES,
    Estimate,
    t_quantile,
)

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
First = int | Ints


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """An `Estimate` of each group, as arrays of shape (groups,)."""

    value: Array
    low: Array
    high: Array

    def rooted(self) -> Estimates:
        """The square roots, of numbers below 0 that of 0."""
        return Estimates(*(np.sqrt(_least_zero(x)) for x in (self.value, self.low, self.high)))

    def each(self) -> list[Estimate]:
        """One object a group."""
        triples = zip(self.value.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        return [Estimate(*triple) for triple in triples]


def _least_zero(values: Array) -> Array:
    return np.where(values < 0.0, 0.0, values)  # NaN stays


def common(first: First) -> First:
    """One number where all groups have the same."""
    if isinstance(first, int):
        return first
    return int(first[0]) if (first == first[0]).all() else first


def totals(values: Array, first: First) -> Array:
    """Sum of each row over its window, shape (groups,)."""
    if isinstance(first, int):
        return values[:, first:].sum(axis=1)
    return _pieces(values, first[:, None])[:, 0]


def means(values: Array, first: First) -> Array:
    """Mean of each row over its window; every window holds a sample."""
    return totals(values, first) / (values.shape[1] - first)


def least(values: Array, first: First) -> Array:
    """The smallest value of each row in its window."""
    if isinstance(first, int):
        return values[:, first:].min(axis=1)
    return _pieces(values, first[:, None], np.minimum)[:, 0]


def mean_ratios(numerator: Array, denominator: Array, first: First, *, slow: bool) -> Estimates:
    """`estimates.mean_ratio` of each row, or with `slow` `slow_mean_ratio`.

    `denominator` may have one row for all groups, or one number a group, shape (groups, 1).
    """
    groups, n = numerator.shape
    counts = n - np.broadcast_to(np.asarray(first), groups)
    top, bottom = means(numerator, first), _bottom(denominator, first, groups)
    known = bottom > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(known, top / bottom, np.nan)
    found = Estimates(value, np.full(groups, np.nan), np.full(groups, np.nan))
    if isinstance(first, int):
        batches = np.full(1, _number_of_batches(n - first))
        kinds = [(int(batches[0]), slice(None))]
    else:
        batches = np.clip(counts // 20, FEWEST_BATCHES, MOST_BATCHES)
        kinds = [(int(b), np.flatnonzero(batches == b)) for b in np.unique(batches)]
    for number, rows in kinds:
        if not isinstance(rows, slice):
            rows = rows[counts[rows] >= 2 * number]
        start = first if isinstance(first, int) else first[rows]
        one_each = denominator if len(denominator) == 1 else denominator[rows]
        deviations = _deviations(
            numerator[rows], one_each, value[rows], bottom[rows], start, number
        )
        reach = (_slow_reach if slow else _reach)(deviations)
        reach = np.where(known[rows] & (counts[rows] >= 2 * number), reach, np.nan)
        found.low[rows], found.high[rows] = value[rows] - reach, value[rows] + reach
    return found


def _number_of_batches(samples: int) -> int:
    return min(MOST_BATCHES, max(FEWEST_BATCHES, samples // 20))


def _bottom(denominator: Array, first: First, groups: int) -> Array:
    if denominator.shape[1] == 1:
        return np.broadcast_to(denominator[:, 0], groups)
    if len(denominator) == 1 and not isinstance(first, int):
        denominator = np.broadcast_to(denominator, (groups, denominator.shape[1]))
    return np.broadcast_to(means(denominator, first), groups)


def _deviations(
    numerator: Array, denominator: Array, ratio: Array, bottom: Array, first: First, batches: int
) -> Array:
    """By how much each batch differs from the ratio, (groups, batches)."""
    tops = _batch_means(numerator, first, batches)
    if denominator.shape[1] == 1:
        bottoms = np.broadcast_to(denominator, tops.shape)
    else:
        if len(denominator) == 1 and not isinstance(first, int):
            denominator = np.broadcast_to(denominator, numerator.shape)
        bottoms = _batch_means(denominator, first, batches)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (tops - ratio[:, None] * bottoms) / bottom[:, None]


def _batch_means(values: Array, first: First, batches: int) -> Array:
    """Means over batches of one length, which leave the remainder out at the front."""
    n = values.shape[1]
    if isinstance(first, int):
        length = (n - first) // batches
        if not length:
            return np.full((len(values), batches), np.nan)
        last = values[:, n - batches * length :]
        return last.reshape(len(values), batches, length).mean(axis=2)
    length = (n - first) // batches
    starts = (n - batches * length)[:, None] + length[:, None] * np.arange(batches)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _pieces(values, starts) / length[:, None]


def _pieces(values: Array, starts: Ints, of: np.ufunc = np.add) -> Array:
    """The sum of each row between one start and the next, and from the last one to the end."""
    groups, n = values.shape
    edges = np.empty((groups, starts.shape[1] + 1), np.int64)
    edges[:, :-1], edges[:, -1] = starts, n
    edges += n * np.arange(groups)[:, None]
    return of.reduceat(np.ascontiguousarray(values).reshape(-1), edges.reshape(-1)[:-1])[
        _places(groups, starts.shape[1])
    ].reshape(groups, -1)


def _places(groups: int, pieces: int) -> Ints:
    """Where the wanted pieces stand among all: one between the rows is none."""
    return (np.arange(groups)[:, None] * (pieces + 1) + np.arange(pieces)).reshape(-1)


def _reach(deviations: Array) -> Array:
    batches = deviations.shape[1]
    error = np.sqrt(_dots(deviations, deviations) / (batches * (batches - 1)))
    return t_quantile(batches - 1) * error


def _slow_reach(deviations: Array) -> Array:
    batches = deviations.shape[1]
    square = _dots(deviations, deviations)
    r = np.zeros(len(square))
    if batches >= FEWEST_PAIRED:
        with np.errstate(divide="ignore", invalid="ignore"):
            r = _dots(deviations[:, 1:], deviations[:, :-1]) / square
        r = np.clip((r * batches + 1.0) / (batches - 3.0), 0.0, MOST_CORRELATED_BATCHES)
        r = np.where(square > 0, r, 0.0)
    fewer = (1.0 + r) / (1.0 - r)
    error = np.sqrt(fewer * square / (batches * (batches - 1)))
    freedom = np.maximum((batches - 1) / fewer, LEAST_FREEDOM)
    return np.array([t_quantile(number) for number in freedom.tolist()]) * error


def _dots(first: Array, second: Array) -> Array:
    return np.vecdot(first, second)
