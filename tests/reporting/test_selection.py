"""Which groups are shown first, and in which colours."""

from __future__ import annotations

import dataclasses
import math

import pytest
from fake_comparison import make_comparison

from spherical_motion.reporting.selection import (
    DISTINCT_COLORS,
    MOST_SHOWN,
    depth_colors,
    first_colors,
    representative_groups,
)
from spherical_motion.vocabulary import Verdict, VerdictKind

FINE = Verdict(VerdictKind.IN_EQUILIBRIUM, "")


def judged(count, off=None):
    """A comparison in which all is fine but for `off`, a mapping from group to ratio."""
    comparison = make_comparison(count)
    for row in comparison.rows:
        row.verdict, row.ratio = FINE, 1.0
        if row.group in {comparison.groups[i] for i in off or {}}:
            row.verdict = dataclasses.replace(FINE, kind=VerdictKind.OFF)
            row.ratio = (off or {})[comparison.groups.index(row.group)]
    return comparison


@pytest.mark.parametrize("count", [0, 1, MOST_SHOWN])
def test_few_groups_are_all_shown(count):
    assert representative_groups(judged(count)) == list(range(count))


@pytest.mark.parametrize("count", [9, 53, 300])
def test_many_groups_are_spread_from_first_to_last(count):
    shown = representative_groups(judged(count))
    assert len(shown) == MOST_SHOWN
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, count - 1)


def test_the_farthest_from_the_prediction_come_first_and_take_half_at_most():
    off = {5: 1.3, 11: 0.2, 16: 1.1, 23: math.nan, 29: 3.0, 31: 1.2}
    shown = representative_groups(judged(53, off))
    assert set(shown) & set(off) == {5, 11, 23, 29}
    assert len(shown) == MOST_SHOWN


def test_groups_shown_first_differ_in_colour():
    colors = first_colors(53, shown=list(range(0, 53, 7)))
    assert len({colors[i] for i in range(0, 53, 7)}) == len(DISTINCT_COLORS) == MOST_SHOWN


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("color", DISTINCT_COLORS)
def test_lines_stand_out_from_white(color):
    contrast = 1.05 / (luminance(color) + 0.05)
    assert contrast > 2.5


def test_the_scale_of_depth_begins_dark_and_ends_light():
    scale = [luminance(c) for c in depth_colors(40)]
    assert scale[0] == min(scale)
    assert scale[-1] > 4 * scale[0]
