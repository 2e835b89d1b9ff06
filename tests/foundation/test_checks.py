"""One entrance for numbers: what it lets in, what it refuses, and in which words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spherical_motion.checks import callable_or_none, number, numbers_in, plain, whole
from spherical_motion.errors import InvalidArgument, OutOfDomain


@pytest.mark.parametrize("value", [0.1, 1, np.float32(0.5), np.array(2.0), torch.tensor(3.0)])
def test_every_kind_of_number_comes_out_as_a_float(value: object) -> None:
    found = number("f", "x", value)
    assert type(found) is float
    assert found == float(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", ["1", b"1", None, math.nan, math.inf, [1.0], np.ones(2), torch.ones(2), object()]
)
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"f\(x=\.\.\.\) must be a finite number, got"):
        number("f", "x", value)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        ({"above": 0.0}, 1e-300, 0.0, "finite and > 0"),
        ({"least": 0.0}, 0.0, -1e-300, "finite and >= 0"),
        ({"least": 0.0, "below": 1.0}, 0.0, 1.0, "finite, >= 0 and < 1"),
        ({"above": 0.0, "most": 1.0}, 1.0, 1.0000001, "finite, > 0 and <= 1"),
    ],
)
def test_bounds_are_open_or_closed_as_named(bounds, inside, outside, words: str) -> None:
    assert number("f", "x", inside, **bounds) == inside
    assert numbers_in("f", "x", [inside], **bounds).tolist() == [inside]
    for check in (number, numbers_in):
        with pytest.raises(OutOfDomain, match=words):
            check("f", "x", outside, error=OutOfDomain, **bounds)


def test_the_first_bad_entry_is_named_with_its_index() -> None:
    with pytest.raises(InvalidArgument, match=r"got nan at index 1, 0\. Mend it\."):
        numbers_in("f", "x", [[1.0, 2.0], [math.nan, -1.0]], remedy="Mend it.")


@pytest.mark.parametrize("value", [True, 1.0, "3", None, -1])
def test_whole_numbers_are_ints_and_nothing_else(value: object) -> None:
    with pytest.raises(InvalidArgument, match="must be an int >= 0"):
        whole("f", "n", value)
    assert whole("f", "n", np.int32(3), most=3) == 3
    with pytest.raises(InvalidArgument, match="and <= 3"):
        whole("f", "n", 4, most=3)


def test_floats_in_float_out() -> None:
    assert type(plain(np.array(1.5))) is float
    assert isinstance(plain(np.array([1.5])), np.ndarray)


def test_callables_and_none_pass() -> None:
    callable_or_none("f", "on_event", None, "f()")
    callable_or_none("f", "on_event", print, "f()")
