"""Clipped entries: the same largest size in several entries, step after step; chance is none."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from spherical_motion.comparison.laws.clipped_entries import limit_of_entries, shared_limits
from spherical_motion.records import AuditSeries

STEPS = (*range(20), 1000, 1001)


def series(largest, at_peak, parameter: int = 0, steps=STEPS, peak=0.01) -> AuditSeries:
    """Rows of one parameter; numbers are the same at each step."""
    rows = {f.name: np.full(len(steps), math.nan) for f in dataclasses.fields(AuditSeries)}
    rows |= {
        "step": np.array(steps),
        "parameter": np.full(len(steps), parameter, np.int32),
        "largest": np.broadcast_to(np.asarray(largest, float), len(steps)),
        "at_peak": np.broadcast_to(np.asarray(at_peak, float), len(steps)),
        "peak": np.full(len(steps), peak),
    }
    return AuditSeries(**rows)


def both(one: AuditSeries, other: AuditSeries) -> AuditSeries:
    names = [f.name for f in dataclasses.fields(AuditSeries)]
    return AuditSeries(**{n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in names})


def judged(one: AuditSeries, other: AuditSeries | None = None) -> tuple[float, float]:
    return limit_of_entries(one, shared_limits(one if other is None else both(one, other)))[:2]


def test_a_limit_is_found_from_the_first_step_and_late() -> None:
    assert judged(series(1e-3, 7)) == (1e-3, 1.0)
    random = np.random.default_rng(0).lognormal(size=20)
    late = series([*random, 0.5, 0.5], [1] * 20 + [9, 9])
    assert judged(late) == (pytest.approx(math.nan, nan_ok=True), 0.0)  # two steps of one tensor
    assert judged(late, series([*random, 0.5, 0.5], 3, 1)) == (0.5, 1.0)


def test_what_only_the_first_steps_reached_is_no_limit() -> None:
    assert judged(series([1.0] * 20 + [0.4, 0.3], [5] * 20 + [1, 1]))[1] == 0.0


def test_few_entries_other_sizes_and_single_steps_are_chance() -> None:
    sizes = np.random.default_rng(1).lognormal(size=len(STEPS))
    assert judged(series(1e-3, 2))[1] == 0.0  # a head for two classes
    assert judged(series(sizes, 40))[1] == 0.0  # equal features of the input
    assert judged(series(sizes, 40), series(sizes, 40, 1))[1] == 0.0
    assert judged(series(1e-3, 7, steps=(0, 1000)))[1] == 0.0  # no neighbours


def test_the_sign_of_an_error_gives_a_bias_one_size_for_ever_and_is_no_clip() -> None:
    assert judged(series(0.25, 4, peak=1.0))[1] == 0.0
    assert judged(series(0.25, 4, peak=1.0), series(0.25, 30, 1))[1] == 1.0


def test_runs_from_before_they_were_counted_say_nothing() -> None:
    found = series(math.nan, math.nan)
    assert judged(found)[1] == 0.0
    assert shared_limits(found) == frozenset()


@pytest.mark.parametrize("seed", range(5))
def test_sizes_of_eight_bits_repeat_by_chance_and_are_no_clip(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(200):
        sizes = np.round(generator.uniform(128, 256, len(STEPS)))
        found = series(sizes, generator.integers(1, 9, len(STEPS)))
        assert judged(found)[1] < 0.8
