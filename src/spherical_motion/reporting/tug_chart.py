"""The tug-of-war chart: what pulls a group's norm in and pushes it out, one group at a time.

Outward is up, inward is down, and the line is what is left: the growth of the norm. The page's own
script copies the columns of the chosen group from the source `tug_all` to the source `tug`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh import models
from numpy.typing import NDArray

from spherical_motion.comparison import ForceCurves, readable_span
from spherical_motion.reporting.sheet import INK, Sheet
from spherical_motion.vocabulary import Stage

Array = NDArray[np.floating]

TURNING, LOSS, DECAY, TOGETHER = "#5aa88f", "#e08a1e", "#3f78b5", "#7b6fa8"
"""Colours of the parts; `page.css` has them too."""

AREAS = (
    ("zero", "turned", TURNING),
    ("turned", "lost_out", LOSS),
    ("lost_out", "both_out", TOGETHER),
    ("zero", "decayed", DECAY),
    ("decayed", "lost_in", LOSS),
    ("lost_in", "both_in", TOGETHER),
)
"""Lower and upper edge of each area, and its colour."""

HOVER = {"turning": "turning", "loss": "loss", "decay": "decay", "both": "decay and loss"}


def draw_tug(
    curves: Sequence[ForceCurves], chosen: int, first: int, last: int, stages: Sequence[Stage]
) -> models.Model:
    """The chart, with the columns of all groups, showing the one `chosen`.

    Args:
        curves: one a group, empty where the balance law says nothing.
        chosen: index of the group to begin with.
        first, last: the recorded steps.
        stages: drawn as vertical lines.
    """
    span = run_span(curves)
    groups: list[dict[str, Any]] = [_columns(curve, 100.0 * span) for curve in curves]
    every: dict[str, Any] = {name: [group[name] for group in groups] for name in groups[0]}
    source = models.ColumnDataSource(groups[chosen], name="tug")
    per = f"{span:,} steps" if span > 1 else "step"
    chart = Sheet(first, last, stages, ()).chart("", f"% of |w| per {per}", 330, "linear")
    chart.toolbar.logo = None
    chart.yaxis[0].name = "tug_axis"
    for low, high, color in AREAS:
        chart.varea("x", low, high, source=source, fill_color=color, fill_alpha=0.75)
    chart.line("x", "zero", source=source, line_color=INK, line_width=1, line_alpha=0.5)
    grown = chart.line("x", "growth", source=source, line_color=INK, line_width=2.5)
    rows = [("step", "@x{0,0}")]
    rows += [(words, f"@{name}{{+0.000}}") for name, words in HOVER.items()]
    rows += [("growth", "@growth{+0.000}")]
    chart.add_tools(models.HoverTool(renderers=[grown], tooltips=rows, mode="vline"))
    chart.xaxis[-1].axis_label = "optimizer step"
    # Only the chosen group sets the scale; the others wait in a source that nothing draws.
    chart.tags = [models.ColumnDataSource(every, name="tug_all")]
    return chart


def run_span(curves: Sequence[ForceCurves]) -> int:
    """The number of steps for which the rates of all groups read best."""
    rates = [np.abs(part) for curve in curves for part in (curve.turning, curve.inward)]
    known = np.concatenate([np.empty(0), *rates])
    known = known[np.isfinite(known)]
    return readable_span(float(np.quantile(known, 0.9)) if known.size else 0.0)


def _columns(curve: ForceCurves, scale: float) -> dict[str, Array]:
    """Edges of the areas and the signed parts, in percent, outward above zero."""
    told_apart = np.isfinite(curve.decay)
    decay, loss = (scale * np.where(told_apart, part, 0.0) for part in (curve.decay, curve.loss))
    both = scale * np.where(told_apart, 0.0, curve.inward)
    turned = scale * np.maximum(curve.turning, 0.0)
    lost_out = turned + np.maximum(-loss, 0.0)
    lost_in = -np.maximum(loss, 0.0) - decay
    found = {
        "x": curve.steps,
        "lr": curve.lr,
        "zero": np.zeros_like(turned),
        "turned": turned,
        "lost_out": lost_out,
        "both_out": lost_out + np.maximum(-both, 0.0),
        "decayed": -decay,
        "lost_in": lost_in,
        "both_in": lost_in - np.maximum(both, 0.0),
        "turning": turned,
        "loss": np.where(told_apart, -loss, np.nan),
        "decay": np.where(told_apart, -decay, np.nan),
        "both": np.where(told_apart, np.nan, -both),
        "growth": scale * curve.growth,
    }
    return {name: values.astype(np.float32) for name, values in found.items()}
