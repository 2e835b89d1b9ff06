"""What reaches the charts: thinned, positive where the axis is logarithmic, small numbers."""

from __future__ import annotations

import numpy as np
from fake_comparison import make_comparison

from spherical_motion.reporting.lines import COLUMNS, collect_lines, common_stages, scalar_lines
from spherical_motion.vocabulary import Stage


def test_extremes_of_a_measured_curve_survive():
    comparison = make_comparison(2, points=20_000)
    lines = collect_lines(comparison)
    for i, group in enumerate(comparison.groups):
        angle = comparison.curves(group).angle
        drawn = lines.columns["angle"]["ys"][i]
        assert drawn.size < angle.size / 5
        assert drawn.min() == np.float32(angle.min())
        assert drawn.max() == np.float32(angle.max())


def test_numbers_take_four_bytes_unless_steps_need_more():
    comparison = make_comparison(1, points=50)
    assert collect_lines(comparison).columns["angle"]["xs"][0].dtype == np.int32
    curves = comparison.curves(comparison.groups[0])
    curves.steps = curves.steps + 2**31
    lines = collect_lines(comparison)
    assert lines.columns["angle"]["xs"][0][-1] == curves.steps[-1]
    assert lines.columns["angle"]["ys"][0].dtype == np.float32


def test_what_a_logarithmic_axis_cannot_show_becomes_a_gap():
    comparison = make_comparison(1, points=6)
    comparison.curves(comparison.groups[0]).angle[:] = [0.1, 0.0, -1.0, np.inf, np.nan, 0.2]
    ys = collect_lines(comparison).columns["angle"]["ys"][0]
    assert np.isfinite(ys).tolist() == [True, False, False, False, False, True]


def test_a_point_that_stands_alone_becomes_a_dot_at_its_step():
    comparison = make_comparison(1, points=6)
    curves = comparison.curves(comparison.groups[0])
    curves.angle[:] = [0.1, 0.1, np.nan, 0.3, np.nan, np.nan]
    columns = collect_lines(comparison).columns["lone_angle"]
    assert columns["xs"][0].tolist() == [curves.steps[3]] * 3
    assert np.nanmean(columns["ys"][0]) == np.float32(0.3)


def test_equal_learning_rates_are_drawn_once():
    comparison = make_comparison(5, points=100)
    comparison.curves(comparison.groups[2]).lr[:] *= 2
    assert [line.name for line in collect_lines(comparison).rates] == [
        "4 of 5 groups",
        "1 of 5 groups",
    ]


def test_the_points_of_all_groups_together_are_bounded():
    sizes = {}
    for count in (50, 200):
        lines = collect_lines(make_comparison(count, points=4_000))
        sizes[count] = sum(ys.size for name in COLUMNS for ys in lines.columns[name]["ys"])
    assert sizes[200] < 1.2 * sizes[50]


def test_stages_of_the_majority():
    comparison = make_comparison(4, points=300)
    usual = comparison.stages(comparison.groups[1])
    comparison.stages_by_group[comparison.groups[0]] = (Stage(0, 5, None),)
    comparison.stages_by_group[comparison.groups[3]] = ()
    assert common_stages(comparison) == usual


def test_scalars_are_found_by_a_part_of_their_name():
    comparison = make_comparison(1, points=10)
    logged = comparison.records.scalars["accuracy"]
    names = ("val_loss", "Loss/train", "lossy", "top1.acc", "accuracy5", "glossary", "lr")
    comparison.records.scalars = dict.fromkeys(names, logged)
    assert [s.name for s in scalar_lines(comparison, "loss")] == ["val_loss", "Loss/train", "lossy"]
    assert [s.name for s in scalar_lines(comparison, "acc")] == ["top1.acc", "accuracy5"]
