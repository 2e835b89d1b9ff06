"""Numbers and names as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion.reporting import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0436, "0.0436"),
        (0.043649, "0.0436"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (999.9, "1000"),
        (0.00009999, "0.000100"),
        (99999.0, "1.00×10⁵"),
        (1e-12, "1.00×10⁻¹²"),
        (-0.5, "-0.500"),
        (0.0, "0"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_three_significant_digits(value, text):
    assert wording.significant(value) == text


@given(st.floats(1e-4, 9e4))
def test_significant_digits_are_within_half_a_unit_of_the_third(value):
    assert float(wording.significant(value)) == pytest.approx(value, rel=5.01e-3)


@given(st.text(max_size=80), st.integers(5, 40))
def test_shortened_names_fit_and_keep_both_ends(name, longest):
    short = wording.shortened(name, longest)
    assert len(short) <= longest
    if len(name) <= longest:
        assert short == name
    else:
        head, tail = short.split("…")[0], short.rsplit("…", 1)[1]
        assert name.startswith(head)
        assert name.endswith(tail)


def test_an_unknown_interval_leaves_no_trace():
    assert wording.interval_text((math.nan, math.nan)) == ""
    assert wording.percent_text(math.inf) == "–"
