"""Sums over the last samples of many rows are those of each row."""

from __future__ import annotations

import numpy as np
import pytest

from spherical_motion.comparison.alike.sums import common, least, mean_ratios, means
from spherical_motion.estimates import mean_ratio, slow_mean_ratio

RNG = np.random.default_rng(3)
TOP, BOTTOM = RNG.normal(1.0, 0.5, (9, 700)), RNG.exponential(2.0, (9, 700))
RAGGED = np.array([0, 1, 350, 420, 600, 641, 688, 692, 699])


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("first", [0, 37, 690, 698])
def test_one_window_for_all_is_exact(first: int, slow: bool) -> None:
    found = mean_ratios(TOP, BOTTOM, first, slow=slow).each()
    one = slow_mean_ratio if slow else mean_ratio
    for i, ratio in enumerate(found):
        assert repr(ratio) == repr(one(TOP[i, first:], BOTTOM[i, first:]))


@pytest.mark.parametrize("slow", [False, True])
def test_windows_of_their_own_agree_but_for_rounding(slow: bool) -> None:
    one = slow_mean_ratio if slow else mean_ratio
    found = mean_ratios(TOP, BOTTOM, RAGGED, slow=slow).each()
    for i, first in enumerate(RAGGED.tolist()):
        slowly = one(TOP[i, first:], BOTTOM[i, first:])
        for name in ("value", "low", "high"):
            assert getattr(found[i], name) == pytest.approx(
                getattr(slowly, name), rel=1e-13, nan_ok=True
            )
        assert means(TOP, RAGGED)[i] == pytest.approx(TOP[i, first:].mean(), rel=1e-14)
        assert least(TOP, RAGGED)[i] == TOP[i, first:].min()


def test_a_constant_denominator_is_one_number_a_group() -> None:
    constant = np.full((9, 1), 2.5)
    for first in (11, RAGGED):
        short = mean_ratios(TOP, constant, first, slow=False)
        long = mean_ratios(TOP, np.repeat(constant, 700, axis=1), first, slow=False)
        for name in ("value", "low", "high"):
            np.testing.assert_allclose(getattr(short, name), getattr(long, name), rtol=1e-13)


def test_a_denominator_that_is_not_above_zero_has_no_ratio() -> None:
    found = mean_ratios(TOP, -BOTTOM, 0, slow=True)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_equal_windows_are_one_number() -> None:
    assert common(np.full(3, 7)) == 7
    assert common(np.array([7, 8])).tolist() == [7, 8]
