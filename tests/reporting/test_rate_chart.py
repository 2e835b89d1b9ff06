"""The chart of the learning rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bokeh.plotting import figure

from spherical_motion.reporting.charts import draw_charts
from spherical_motion.reporting.lines import GroupLines, ScalarLine


def rate_chart(*rates: np.ndarray) -> figure:
    lines = [ScalarLine(f"lr{i}", np.arange(len(r)), r) for i, r in enumerate(rates)]
    names = ("angle", "lone_angle", "predicted_angle", "norm", "lone_norm", "predicted_norm")
    none = {name: {"xs": [], "ys": []} for name in names}
    drawn = draw_charts(GroupLines(none, tuple(lines), 0, 99, 100, 100), (), (), (), ())
    (chart,) = (c for c in drawn.select({"type": figure}) if c.title.text == "Learning rate")
    return chart


@pytest.mark.parametrize("rate", [1e-4, 0.05, 3.0])
def test_a_constant_rate_is_drawn_from_zero(rate: float) -> None:
    shown = rate_chart(np.full(100, rate)).y_range
    assert (shown.start, shown.end) == (0.0, pytest.approx(1.08 * rate))


def test_rates_below_zero_are_never_shown() -> None:
    warmup = np.linspace(0.0, 0.1, 100)
    gaps = np.where(np.arange(100) % 2 == 0, math.nan, 0.2)
    shown = rate_chart(warmup, gaps).y_range
    assert (shown.start, shown.end) == (0.0, pytest.approx(1.08 * 0.2))
    assert rate_chart(np.full(100, math.nan)).y_range.start > 0
    assert rate_chart(np.zeros(100)) is not None
