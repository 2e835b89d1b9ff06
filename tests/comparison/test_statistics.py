from __future__ import annotations

import math

import numpy as np
import pytest

from spherical_motion.comparison.statistics import (
    rms_ratio,
    root_mean_ratio,
    slow_root_mean_ratio,
)
from spherical_motion.estimates import Estimate, mean_ratio, slow_mean_ratio


@pytest.mark.parametrize(
    ("memory", "n", "least"), [(0.0, 20, 0.9), (0.0, 2000, 0.9), (0.9, 100, 0.85), (0.9, 2000, 0.9)]
)
def test_intervals_cover_the_truth_about_as_often_as_they_say(memory, n, least) -> None:
    # An AR(1) process: naive intervals at memory 0.9 would cover about 35% of the time. Shorter
    # than ten memories, as in the third case, is not judged.
    rng = np.random.default_rng(0)
    hits, trials = 0, 300
    for _ in range(trials):
        noise = rng.standard_normal(n)
        x = np.empty(n)
        x[0] = noise[0]
        for t in range(1, n):
            x[t] = memory * x[t - 1] + math.sqrt(1 - memory**2) * noise[t]
        series = 4.0 + x
        estimate = root_mean_ratio(series, np.ones(n))
        hits += estimate.low <= 2.0 <= estimate.high
    assert least <= hits / trials <= 0.99


def slow(phi: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the correlation φ^k, from its stationary state."""
    x, noise = np.empty(n), rng.standard_normal(n)
    x[0] = noise[0]
    for t in range(1, n):
        x[t] = phi * x[t - 1] + math.sqrt(1 - phi**2) * noise[t]
    return x


@pytest.mark.parametrize(("phi", "n"), [(0.0, 200), (0.9, 200), (0.9, 600), (0.99, 1000)])
def test_slow_intervals_cover_the_truth_where_noise_lasts_as_long_as_a_batch(phi, n) -> None:
    rng = np.random.default_rng(1)
    hits = narrow_hits = roots = 0
    for _ in range(60):
        x = slow(phi, n, rng)
        wide, narrow = slow_mean_ratio(x, np.ones(n)), mean_ratio(x, np.ones(n))
        hits += wide.low <= 0.0 <= wide.high
        narrow_hits += narrow.low <= 0.0 <= narrow.high
        root = slow_root_mean_ratio(9.0 + x, np.ones(n))
        roots += root.low <= 3.0 <= root.high
        assert wide.value == narrow.value
        assert wide.high >= narrow.high
    assert hits / 60 >= 0.9
    assert roots == hits
    if phi == 0.99:
        assert narrow_hits / 60 < 0.8


def test_slow_intervals_tend_to_the_others_as_the_batches_grow_longer_than_the_noise() -> None:
    rng, shares = np.random.default_rng(2), []
    for n in (300, 3000):
        pairs = []
        for _ in range(60):
            x = slow(0.95, n, rng)
            wide, narrow = slow_mean_ratio(x, np.ones(n)), mean_ratio(x, np.ones(n))
            pairs.append((wide.high - wide.low) / (narrow.high - narrow.low))
        shares.append(np.median(pairs))
    assert shares[0] > 1.5 > 1.3 > shares[1]
    steady = slow_mean_ratio(np.full(100, 8.0), np.full(100, 2.0))
    assert (steady.value, steady.low, steady.high) == (4.0, 4.0, 4.0)
    assert math.isnan(slow_mean_ratio(np.ones(6), np.ones(6)).low)


def test_ratio_of_means_and_its_root() -> None:
    estimate = root_mean_ratio(np.full(100, 8.0), np.full(100, 2.0))
    assert (estimate.value, estimate.low, estimate.high) == (2.0, 2.0, 2.0)
    assert rms_ratio(np.array([3.0, -4.0]), 1.0).value == pytest.approx(math.sqrt(12.5))


def test_too_little_data_gives_no_interval_and_none_gives_nothing() -> None:
    few = root_mean_ratio(np.ones(6), np.ones(6))
    assert few.value == 1.0
    assert math.isnan(few.low)
    assert not few.meets(0.9, 1.1)
    assert math.isnan(root_mean_ratio(np.empty(0), np.empty(0)).value)


def test_meeting_is_sharing_a_point() -> None:
    assert Estimate(1.2, 1.05, 1.3).meets(0.95, 1.05)
    assert not Estimate(1.2, 1.06, 1.3).meets(0.95, 1.05)
