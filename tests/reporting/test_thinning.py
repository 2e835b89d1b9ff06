"""Thinning loses no extreme, no gap and no jump that a screen could show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion.reporting.thinning import is_lone, points_to_keep

numbers = st.one_of(
    st.integers(-3, 3).map(float),  # ties
    st.floats(-1e6, 1e6),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
series = st.lists(st.tuples(st.integers(1, 9), numbers), max_size=120).map(
    lambda pairs: (
        np.cumsum([gap for gap, _ in pairs], dtype=np.int64),
        np.array([value for _, value in pairs], dtype=np.float64),
    )
)
bucket_counts = st.integers(1, 12)
break_lists = st.lists(st.integers(-5, 600), max_size=3)


def obvious(steps, values, buckets, breaks=()) -> list[int]:
    """One bucket after the other, one point after the other."""
    n = len(steps)
    if n <= 2 * buckets:
        return list(range(n))
    edges = np.linspace(steps[0], steps[-1], buckets + 1)[1:-1]
    members: dict[int, list[int]] = {}
    for i in range(n):
        members.setdefault(sum(bool(steps[i] >= edge) for edge in edges), []).append(i)
    kept = {0, n - 1}
    for inside in members.values():
        finite = [i for i in inside if np.isfinite(values[i])]
        if finite:
            kept.add(min(finite, key=lambda i: (values[i], i)))
            kept.add(min(finite, key=lambda i: (-values[i], i)))
        else:
            kept.add(inside[0])
    for step in breaks:
        at = sum(bool(s < step) for s in steps)
        kept |= {min(max(at - 1, 0), n - 1), min(at, n - 1)}
    return sorted(kept)


@given(series, bucket_counts, break_lists)
def test_agrees_with_the_obvious_way(data, buckets, breaks):
    steps, values = data
    assert points_to_keep(steps, values, buckets, breaks).tolist() == obvious(
        steps, values, buckets, breaks
    )


@given(series, bucket_counts, break_lists)
def test_thinning_twice_changes_nothing(data, buckets, breaks):
    steps, values = data
    once = points_to_keep(steps, values, buckets, breaks)
    twice = points_to_keep(steps[once], values[once], buckets, breaks)
    assert once[twice].tolist() == once.tolist()


@given(series, bucket_counts)
def test_the_logarithm_keeps_the_same_points(data, buckets):
    steps, values = data
    positive = np.where(np.isfinite(values), np.exp2(np.clip(values, -40, 40).round()), np.nan)
    kept = points_to_keep(steps, positive, buckets)
    assert kept.tolist() == points_to_keep(steps, np.log2(positive), buckets).tolist()


def test_a_long_series_shrinks_to_two_points_a_bucket_and_keeps_every_spike():
    rng = np.random.default_rng(0)
    values = rng.normal(size=90_000)
    spikes = rng.choice(90_000, 20, replace=False)
    values[spikes] = 100 + np.arange(20)
    kept = points_to_keep(np.arange(90_000), values, 1_500)
    assert 2_900 < len(kept) <= 2 * 1_500 + 2
    found = kept[values[kept] >= 100]
    lost = set(spikes) - set(found)
    # A spike may only be missing where a higher one stands in the same bucket of 60 steps.
    assert all(any(values[f] > values[i] and abs(f - i) < 60 for f in found) for i in lost)


def test_a_gap_wider_than_two_buckets_stays_a_gap():
    values = np.ones(1_000)
    values[400:425] = np.nan
    kept = points_to_keep(np.arange(1_000), values, 100)
    inside = kept[(kept >= 400) & (kept < 425)]
    assert inside.size > 0
    assert np.isnan(values[inside]).all()


def test_a_jump_at_a_break_stays_one_step_wide():
    values = np.where(np.arange(10_000) < 3_333, 0.1, 0.01)
    kept = points_to_keep(np.arange(10_000), values, 10, breaks=[3_333])
    assert {3_332, 3_333} <= set(kept.tolist())


@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_short_series_stay_whole(n):
    kept = points_to_keep(np.arange(n), np.full(n, np.nan), 100)
    assert kept.tolist() == list(range(n))


@given(st.lists(st.booleans(), max_size=30))
def test_lone_values_have_no_finite_neighbour(finite):
    values = np.where(finite, 1.0, np.nan) if finite else np.empty(0)
    padded = [False, *finite, False]
    expected = [
        padded[i] and not padded[i - 1] and not padded[i + 1] for i in range(1, len(finite) + 1)
    ]
    assert is_lone(values).tolist() == expected
