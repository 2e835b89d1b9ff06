"""Every public function that takes numbers answers a bad one with an error of ours, and at once."""

from __future__ import annotations

import math
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from public_numbers import BAD, ONLY_MADE_HERE, Entrance, entrances

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument, OutOfDomain, SphericalMotionError

ENTRANCES = list(entrances())
SECONDS = 2.0

NAN_IS_A_RESULT = {
    "sphere": "functions of measured Grams: NaN where a number was not measured or is 0/0",
    "theory.damped_lr": "settings as they were recorded; NaN where they were not",
    "theory.driven_step_ratio_sq": "norm and drive are measured; NaN where they were not",
}
"""Rooms and functions give NaN for numbers without meaning, and why."""


def answer(entrance: Entrance, **changed: object) -> object:
    """The result of a call, or the error of ours that it ends in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return entrance.call(**entrance.arguments | changed)
        except SphericalMotionError as error:
            return error


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table that `Schedule.from_csv` reads."""
    monkeypatch.chdir(tmp_path)
    Path("plan.csv").write_text("step,lr\n0,0.1\n9,0.01\n")


@pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda entrance: entrance.name)
def test_bad_numbers_are_refused_or_computed_with(entrance: Entrance) -> None:
    assert not isinstance(answer(entrance), SphericalMotionError), "its usual arguments are refused"
    may_be_nan = {entrance.name, entrance.name.partition(".")[0]} & NAN_IS_A_RESULT.keys()
    for name in entrance.numbers:
        for bad in BAD:
            start = time.process_time()
            result = answer(entrance, **{name: bad})
            assert time.process_time() - start < SECONDS, (name, bad)
            if isinstance(result, float) and not may_be_nan:
                assert not math.isnan(result), (name, bad)


def test_the_entrances_are_many_and_text_is_refused_by_all_that_need_a_number() -> None:
    assert len(ENTRANCES) > 90
    for entrance in ENTRANCES:
        for name in set(entrance.numbers) & {"lr", "momentum", "steps", "norm0", "pull", "excess"}:
            refused = answer(entrance, **{name: "x"})
            assert isinstance(refused, InvalidArgument), (entrance.name, name)
            assert name in str(refused)


def test_classes_are_left_out_for_a_reason() -> None:
    assert all(len(reason) > 15 for reason in ONLY_MADE_HERE.values())


@checks.validated
def scaled(x: checks.Number, by: float, times: int = 1, limit: float = math.inf) -> checks.Number:
    return x * by**times + 0 * min(limit, 1.0)


def test_lists_become_arrays_and_a_default_that_is_infinite_may_be_given() -> None:
    assert scaled([1.0, 2.0], 2.0).tolist() == [2.0, 4.0]
    assert scaled(3.0, 2.0, 2, math.inf) == 12.0
    with pytest.raises(OutOfDomain, match=r"scaled\(by=...\) must be finite, got inf"):
        scaled(3.0, math.inf)
    with pytest.raises(InvalidArgument, match=r"scaled\(by=...\) must be a finite number, got \["):
        scaled(3.0, [1.0])
    with pytest.raises(InvalidArgument, match=r"scaled\(times=...\) must be an int, got 2\.0"):
        scaled(3.0, 2.0, times=2.0)
    with pytest.raises(OutOfDomain, match="beyond what float64 holds"):
        scaled(3.0, 1e300, 2)
    with pytest.raises(InvalidArgument, match="shapes do not fit"):
        scaled_together(np.ones(2), np.ones(3))


@checks.validated
def scaled_together(x: checks.Array, y: checks.Array) -> checks.Array:
    return x * y


def test_counts_say_their_limit() -> None:
    from spherical_motion.simulate import norm_sgdm
    from spherical_motion.vocabulary import HyperParameters, Schedule

    with pytest.raises(InvalidArgument, match="100,000,000 are the most"):
        Schedule.constant(HyperParameters("sgd", lr=0.1), 10**11)
    with pytest.raises(InvalidArgument, match="<= 10000000000, got 9223372036854775808"):
        norm_sgdm(0.1, 1e-3, 0.9, 1.0, norm0=1.0, steps=2**63)
