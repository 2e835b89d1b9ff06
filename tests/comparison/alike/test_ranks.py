"""Medians and quantiles by a sample are numpy's to the last bit; a spike begins where it may."""

from __future__ import annotations

import numpy as np
import pytest

from spherical_motion.comparison.alike.ranks import LONG, medians, quantiles
from spherical_motion.comparison.laws.spike import LARGE, LONGEST, SPAN, may_spike

RNG = np.random.default_rng(5)
SHARES = (0.0, 0.16, 0.5, 0.84, 1.0)


@pytest.mark.parametrize("count", [1, 2, 999, LONG, LONG + 1])
@pytest.mark.parametrize("kind", ["noise", "walk", "coarse", "sorted", "constant", "NaN"])
def test_medians_and_quantiles_are_those_of_numpy(count: int, kind: str) -> None:
    rows = RNG.standard_normal((3, count))
    if kind == "walk":
        rows = np.cumsum(rows, axis=1)
    elif kind == "coarse":
        rows = rows.round(1)
    elif kind == "sorted":
        rows = np.sort(np.exp(3.0 * rows), axis=1)
    elif kind == "constant":
        rows = np.zeros_like(rows)
    elif kind == "NaN":
        rows[1, count // 2] = np.nan
    assert np.array_equal(medians(rows), np.median(rows, axis=1), equal_nan=True)
    assert np.array_equal(
        quantiles(rows, SHARES), np.quantile(rows, SHARES, axis=1), equal_nan=True
    )


def test_a_spike_may_begin_where_a_slow_search_finds_room_for_one() -> None:
    size = RNG.standard_normal((4, 300)) * np.array([[0.1], [0.5], [1.0], [2.0]])
    found = may_spike(size)
    for row, places in zip(size, found, strict=True):
        for at in range(1, row.size):
            before, ahead = row[max(at - SPAN, 0) : at], row[at : at + LONGEST + 1]
            rises = row[at] - row[at - 1] >= LARGE / 2.0
            assert places[at - 1] == (rises and ahead.max() - before.min() >= LARGE)
