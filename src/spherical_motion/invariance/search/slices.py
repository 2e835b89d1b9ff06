"""Which rows and blocks of rows of one parameter have Σ⟨w_i, g_i⟩ = 0: arithmetic, no model.

With t_i = ⟨w_i, g_i⟩ for the rows i of a parameter, a block of rows is scale-invariant exactly
when its t sum to zero at almost every point. A few random points separate truth from chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.running import Evidence, RowSums
from spherical_motion.vocabulary import Slice

NEARLY = 0.05
"""Largest |t| that an ε in a norm may leave, in units of the |t| of unrelated w and g."""


def typical_sizes(evidence: Evidence) -> NDArray[np.float64]:
    """‖w‖‖g‖ of a typical row in each pass, shape (...): the upper quartile of those that live.

    Not the median, because many rows may hold nothing but rounding errors.
    """
    sizes = np.concatenate([axes[0].size for axes in evidence.values()], axis=-1)
    passes = sizes.reshape(-1, sizes.shape[-1])
    typical = [np.quantile(s[s > 0.0], 0.75) if (s > 0.0).any() else 0.0 for s in passes]
    return np.reshape(typical, sizes.shape[:-1])


def without_noise(evidence: Evidence, dead: float) -> Evidence:
    """The same with t = 0 for rows whose gradient is made of rounding errors in that pass.

    A gain in front of a ReLU and a batch norm has no gradient at points where the ReLU clips
    nothing. There ⟨w, g⟩ / ‖w‖‖g‖ is a quotient of rounding errors, of order 1. For `dead` see
    `Precision`.
    """
    floor = dead * typical_sizes(evidence)[..., None]
    return {
        name: tuple(
            dataclasses.replace(rows, t=np.where(rows.size > floor, rows.t, 0.0)) for rows in axes
        )
        for name, axes in evidence.items()
    }


LiveRows: TypeAlias = Mapping[str, tuple[NDArray[np.bool_], ...]]
"""Parameter name → for each axis, which rows have a gradient."""


def blocks_of(
    parameter: str, axes: Sequence[RowSums], live: Sequence[NDArray[np.bool_]], zero: float
) -> list[Slice]:
    """The finest disjoint blocks of one parameter that have Σt = 0 in every probe.

    Tries each axis and takes the one whose blocks hold the most live rows, relative to all of
    them; between equals the one with more blocks, then the lower axis. `zero` is relative to
    √Σ(ww·gg).

    >>> g = np.random.default_rng(0).normal(size=(3, 2, 2))
    >>> w = np.stack([-g[..., 1], g[..., 0]], axis=-1)          # orthogonal row by row
    >>> sums = [RowSums(*((x * y).sum(-1) for x, y in ((w, g), (w, w), (g, g))), entries=2)]
    >>> [str(s) for s in blocks_of("w", sums, [np.ones(2, dtype=bool)], zero=1e-8)]
    ['w[0:1]', 'w[1:2]']
    """
    found: list[tuple[float, int, list[Slice]]] = []
    for axis, (rows, alive) in enumerate(zip(axes, live, strict=True)):
        ranges = finest_ranges(rows, alive, zero)
        held = sum(int(alive[a:b].sum()) for a, b in ranges)
        if held:
            if len(ranges) == 1 and held == alive.sum():
                axis, ranges = 0, [(0, axes[0].rows)]  # all live rows: call it the whole tensor
            slices = [Slice(parameter, axis, a, b) for a, b in ranges]
            found.append((held / int(alive.sum()), len(slices), slices))
    return max(found, key=lambda f: f[:2])[2] if found else []


def nearly_blocks_of(
    parameter: str, axes: Sequence[RowSums], live: Sequence[NDArray[np.bool_]]
) -> list[Slice]:
    """The finest division of a whole parameter into equal blocks that all have Σt ≈ 0.

    Suspects only: an ε that cannot be removed, as a literal in a forward pass, leaves a |Σt| of its
    own relative size. Measured in units z = |Σt|√entries / √(Σww·Σgg), which are of
    order 1 for unrelated w and g of any size.
    """
    for axis, (rows, alive) in enumerate(zip(axes, live, strict=True)):
        for length in (n for n in range(1, rows.rows + 1) if rows.rows % n == 0):
            start = np.arange(0, rows.rows, length)
            stop = start + length
            t, ww, gg = (range_sums(x, start, stop) for x in (rows.t, rows.ww, rows.gg))
            lives = range_sums(alive.astype(np.float64), start, stop) > 0
            near = np.abs(t) * np.sqrt(rows.entries * length) <= NEARLY * np.sqrt(ww * gg)
            if lives.any() and near[:, lives].all():
                if length == rows.rows:
                    return [Slice(parameter, 0, 0, axes[0].rows)]
                pairs = zip(start[lives].tolist(), stop[lives].tolist(), strict=True)
                return [Slice(parameter, axis, a, b) for a, b in pairs]
    return []


def finest_ranges(rows: RowSums, alive: NDArray[np.bool_], zero: float) -> list[tuple[int, int]]:
    """Disjoint ranges of rows with Σt = 0, each without such a range inside, in order.

    Single rows first. In the rest, let P_j be the sum of the first j values of t. A block from i to
    j has Σt = P_j - P_i, so it vanishes exactly if P_i = P_j. Equal prefix sums are found by
    sorting, in O(n log n); trying all blocks would take O(n²). The nearest equal pairs are the
    finest blocks.
    """
    invariant = alive & (np.abs(rows.t) <= zero * rows.size).all(axis=0)
    ranges = [(int(i), int(i) + 1) for i in np.flatnonzero(invariant)]
    rest = np.flatnonzero(alive & ~invariant)
    if rest.size > 1:
        previous = 0
        for first, last in _equal_prefixes(rows, rest, zero):
            a, b = int(rest[first]), int(rest[last - 1]) + 1
            if first >= previous and not invariant[a:b].any():
                ranges.append((a, b))
                previous = last
    return sorted(ranges)


def _equal_prefixes(
    rows: RowSums, index: NDArray[np.intp], zero: float
) -> Iterable[tuple[int, int]]:
    """Minimal (first, last) with Σ t[index[first:last]] = 0, by increasing `last`."""
    t, size = rows.t[:, index], rows.size[:, index]
    prefix = np.concatenate([np.zeros((t.shape[0], 1)), t.cumsum(axis=1)], axis=1)
    # A coarse bound, of one typical row: it only has to keep apart sums that differ by a value. The
    # strict test below uses the sizes of the rows in the block itself.
    tolerance = zero * np.sqrt((size**2).mean(axis=1))
    places = np.stack([_clusters(p, tol) for p, tol in zip(prefix, tolerance, strict=True)])
    _, place = np.unique(places, axis=1, return_inverse=True)
    if place.max() + 1 == place.size:  # all different, the usual case
        return
    latest: dict[int, int] = {}
    for position, key in enumerate(place.ravel().tolist()):
        first = latest.get(key)
        if first is not None:
            block = slice(first, position)
            bound = zero * np.sqrt((size[:, block] ** 2).sum(axis=1))
            if (np.abs(t[:, block].sum(axis=1)) <= bound).all():
                yield first, position
        latest[key] = position


def _clusters(values: NDArray[np.float64], tolerance: float) -> NDArray[np.intp]:
    """Label the values: those closer than `tolerance` to a neighbour share a label."""
    order = np.argsort(values, kind="stable")
    jumps = np.diff(values[order]) > tolerance
    labels = np.empty(values.shape, dtype=np.intp)
    labels[order] = np.concatenate([[0], np.cumsum(jumps)])
    return labels


def range_sums(
    values: NDArray[np.float64], start: NDArray[np.intp], stop: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Σ values[..., start:stop] for each pair, without the rounding of differenced prefixes."""
    padded = np.concatenate([values, np.zeros((*values.shape[:-1], 1))], axis=-1)
    edges = np.stack([start, stop], axis=1).ravel()
    return np.add.reduceat(padded, edges, axis=-1)[..., ::2]
