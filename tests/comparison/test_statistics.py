from __future__ import annotations

import math

import numpy as np
import pytest

from spherical_motion.comparison.statistics import rms_ratio, root_mean_ratio
from spherical_motion.estimates import Estimate


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
