"""Which few numbers out of many add up to zero in every probe: arithmetic, no model.

This is the subset-sum problem. It is split into two halves whose sums are sorted and matched (meet
in the middle, Horowitz and Sahni 1974), which takes the square root of the work of trying all.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

NOTICED = 30.0
"""A value counts if it is at least this many times the threshold's uncertainty."""

MOST_MATCHES = 4_000_000
"""With more, the values are too similar to distinguish, and nothing is concluded from them."""

Values = NDArray[np.float64]


def signed_sums(values: Values, sizes: Values, zero: float) -> list[dict[int, int]]:
    """Two, three or four values that cancel with coefficients ±1, in order of their number.

    Args:
        values: shape (probes, count).
        sizes: the same, what each value is uncertain relative to.
        zero: a sum is zero if within this times the root of its squared sizes.

    Returns:
        index → coefficient, the first one positive.

    >>> x = np.array([[1.0, 5.0, 4.0, 9.0], [2.0, 3.0, 1.0, 7.0]])
    >>> signed_sums(x, np.ones_like(x), 1e-9)
    [{0: 1, 1: -1, 2: 1}]
    """
    count = values.shape[1]
    tolerance = 2.0 * zero * np.sqrt((sizes**2).mean(axis=1)) if count else np.zeros(0)
    usable = np.flatnonzero((np.abs(values) > NOTICED * tolerance[:, None]).any(axis=0))
    if usable.size < 2:
        return []
    i, j = (usable[k] for k in np.triu_indices(usable.size, 1))
    # Two members: a ± b = 0. Three: a ± b = ± c. Four: a ± b = ± (c ± d). So the sums of all pairs
    # are matched with zero, with single values and with each other.
    pairs = [{int(a): 1, int(b): s} for s in (1, -1) for a, b in zip(i, j, strict=True)]
    paired = np.concatenate([values[:, i] + values[:, j], values[:, i] - values[:, j]], axis=1)
    found: list[dict[int, int]] = [
        pairs[k] for k in np.flatnonzero((np.abs(paired) <= tolerance[:, None]).all(axis=0))
    ]
    singles = [{int(k): 1} for k in usable]
    for terms, sums in ((singles, values[:, usable]), (pairs, paired)):
        for a, b in _equal(paired, np.hstack([sums, -sums]), tolerance):
            rest, sign = terms[b % len(terms)], 1 if b < len(terms) else -1
            if not pairs[a].keys() & rest.keys():
                found.append(pairs[a] | {k: -sign * s for k, s in rest.items()})
    unique = {tuple(sorted(_positive(f).items())): None for f in found}
    relations = [dict(items) for items in unique]
    return sorted((r for r in relations if _cancels(r, values, sizes, zero)), key=len)


def zero_subsets(values: Values, sizes: Values, zero: float) -> list[tuple[int, ...]]:
    """Subsets that add up to zero, the smallest first; none contains another.

    Sums over the subsets of one half are matched with those of the other: 2^(count/2) each.

    >>> x = np.array([[1.0, 5.0, -6.0, 9.0], [2.0, 3.0, -5.0, 7.0]])
    >>> zero_subsets(x, np.ones_like(x), 1e-9)
    [(0, 1, 2)]
    """
    tolerance = zero * np.sqrt((sizes**2).sum(axis=1))
    usable = np.flatnonzero((np.abs(values) > NOTICED * tolerance[:, None]).any(axis=0))
    if usable.size < 2:
        return []
    half = usable.size // 2
    sides = [usable[:half], usable[half:]]
    choices = [np.array(list(itertools.product((0, 1), repeat=side.size))) for side in sides]
    left, right = (values[:, s] @ c.T for s, c in zip(sides, choices, strict=True))
    found: list[tuple[int, ...]] = []
    for a, b in _equal(left, -right, tolerance):
        chosen = np.concatenate([sides[0][choices[0][a] == 1], sides[1][choices[1][b] == 1]])
        subset = dict.fromkeys(chosen.tolist(), 1)
        if len(subset) > 1 and _cancels(subset, values, sizes, zero):
            found.append(tuple(subset))
    minimal: list[tuple[int, ...]] = []
    for subset in sorted(found, key=lambda s: (len(s), s)):
        if not any(set(m) <= set(subset) for m in minimal):
            minimal.append(subset)
    return minimal


def _cancels(terms: dict[int, int], values: Values, sizes: Values, zero: float) -> bool:
    """Whether a sum vanishes relative to its size, and each of its members is needed for it."""
    index, sign = np.array(list(terms)), np.array(list(terms.values()))
    bound = zero * np.sqrt((sizes[:, index] ** 2).sum(axis=1))
    needed = (np.abs(values[:, index]) > NOTICED * bound[:, None]).any(axis=0)
    return bool(needed.all() and (np.abs(values[:, index] @ sign) <= bound).all())


def _positive(terms: dict[int, int]) -> dict[int, int]:
    """The same up to sign, with the lowest index positive."""
    sign = terms[min(terms)]
    return {k: s * sign for k, s in terms.items()}


def _equal(left: Values, right: Values, tolerance: Values) -> list[tuple[int, int]]:
    """Pairs (i, j) with left[:, i] = right[:, j] up to the tolerance of each probe."""
    order = np.argsort(right[0])
    ranked = right[0, order]
    low = np.searchsorted(ranked, left[0] - tolerance[0], side="left")
    high = np.searchsorted(ranked, left[0] + tolerance[0], side="right")
    near = high - low
    if near.sum() > MOST_MATCHES:
        return []
    i = np.repeat(np.arange(left.shape[1]), near)
    within = np.arange(i.size) - np.repeat(np.cumsum(near) - near, near)
    j = order[np.repeat(low, near) + within]
    same = (np.abs(left[:, i] - right[:, j]) <= tolerance[:, None]).all(axis=0)
    return list(zip(i[same].tolist(), j[same].tolist(), strict=True))
