"""The tug-of-war chart: what pulls a group's norm in and pushes it out, one group at a time.

Outward is up, inward is down, and the line is what is left: the growth of the norm. The page's own
script copies the columns of the chosen group from the source `tug_all` to the source `tug`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh import models
from numpy.typing import NDArray

from spherical_motion.comparison import ForceCurves
from spherical_motion.comparison.words import SPANS
from spherical_motion.reporting.sheet import INK, Sheet
from spherical_motion.vocabulary import Stage

Array = NDArray[np.floating]

TURNING, LOSS, DECAY, TOGETHER = "#5aa88f", "#e08a1e", "#3f78b5", "#7b6fa8"
"""Colours of the parts; `page.css` has them too, ..."""

FAILED, TOLD = "#c0392b", "#edf0f4"
"""... and those of the steps where the parts miss the growth, and of those the sentence tells."""

AREAS = (
    ("zero", "turned_out", TURNING),
    ("turned_out", "lost_out", LOSS),
    ("lost_out", "both_out", TOGETHER),
    ("zero", "decayed", DECAY),
    ("decayed", "lost_in", LOSS),
    ("lost_in", "both_in", TOGETHER),
    ("both_in", "turned_in", TURNING),
)
"""Lower and upper edge of each area, and its colour."""

HOVER = {"turning": "turning", "loss": "loss", "decay": "decay", "both": "decay and loss"}

MARKS = ("x", "y", "text", "side", "align")
"""Columns of the marks where values leave the picture."""

ROOM = 3.0
"""The picture reaches to this many times the upper quartile of a stage, ..."""

SPARE = 1.6
"""... or to the largest value, if that is at most this many times farther."""

MARGIN = 1.08
LEAST = 0.15
"""Each side of zero takes at least this share of the picture."""


def draw_tug(
    curves: Sequence[ForceCurves], chosen: int, steps: tuple[int, int], stages: Sequence[Stage],
    span: int, told: Sequence[tuple[float, float] | None],
) -> models.Model:  # fmt: skip
    """The chart, with the columns of all groups, showing the one `chosen`.

    Values beyond the picture leave it; the page's script marks where, and how far they go.

    Args:
        curves: one a group, empty where the balance law says nothing.
        chosen: index of the group to begin with.
        steps: the first and the last that was recorded.
        stages: drawn as vertical lines.
        span: rates are given per so many steps, or per fewer where a group's are above 100%.
        told: for each group the first and last of the steps that its sentence is about.
    """
    units = [unit_of(curve, stages, span) for curve in curves]
    groups: list[dict[str, Any]] = [
        columns_of(curve, 100.0 * unit) for curve, unit in zip(curves, units, strict=True)
    ]
    every: dict[str, Any] = {name: [group[name] for group in groups] for name in groups[0]}
    for name, by_rate in (("range", False), ("range_by_rate", True)):
        every[name] = [
            picture_range(group, curve, stages, by_rate)
            for group, curve in zip(groups, curves, strict=True)
        ]
    every["label"] = [label_of(unit) for unit in units]
    every["told"] = [list(steps or ()) for steps in told]
    every["failed"] = [[float(x) for a in c.spans(c.failed) for x in a] for c in curves]
    source = models.ColumnDataSource(groups[chosen], name="tug")
    sentence = models.ColumnDataSource({"x0": [], "x1": []}, name="tug_told")
    failed = models.ColumnDataSource({"x0": [], "x1": []}, name="tug_failed")
    marks = models.ColumnDataSource({name: [] for name in MARKS}, name="tug_marks")
    chart = Sheet(*steps, stages, ()).chart("", every["label"][chosen], 380, "linear")
    low, high = every["range"][chosen]
    chart.y_range = models.Range1d(start=low, end=high, name="tug_range")
    chart.toolbar.logo = None
    chart.yaxis[0].name = "tug_axis"
    chart.vstrip("x0", "x1", source=sentence, line_color=None, fill_color=TOLD)
    for lower, upper, color in AREAS:
        chart.varea("x", lower, upper, source=source, fill_color=color, fill_alpha=0.75)
    chart.vstrip(
        "x0", "x1", source=failed, line_color=None, fill_color="#ffffff", fill_alpha=0.5,
        hatch_pattern="right_diagonal_line", hatch_color=FAILED, hatch_alpha=0.35, hatch_scale=16,
    )  # fmt: skip
    chart.line("x", "zero", source=source, line_color=INK, line_width=1, line_alpha=0.5)
    grown = chart.line("x", "growth", source=source, line_color=INK, line_width=2.5)
    look: dict[str, Any] = {"background_fill_color": "#ffffff", "background_fill_alpha": 0.9}
    look |= {"padding": 2, "border_radius": 3, "text_color": INK, "text_font_size": "12px"}
    look |= {"text": "text", "text_baseline": "side", "text_align": "align"}
    chart.text("x", "y", source=marks, **look)
    rows = [("step", "@x{0,0}")]
    rows += [(words, f"@{name}{{+0.000}}") for name, words in HOVER.items()]
    rows += [("growth", "@growth{+0.000}"), ("not explained", "@missing{+0.000}")]
    chart.add_tools(models.HoverTool(renderers=[grown], tooltips=rows, mode="vline"))
    chart.xaxis[-1].axis_label = "optimizer step"
    # Only the chosen group sets the scale; the others wait in a source that nothing draws.
    chart.tags = [models.ColumnDataSource(every, name="tug_all")]
    return chart


def unit_of(curve: ForceCurves, stages: Sequence[Stage], span: int) -> int:
    """For how many steps, `span` at most, the picture of a group stays within 100%."""
    reach = max(map(abs, picture_range(columns_of(curve, 1.0), curve, stages, False))) / MARGIN
    if not curve.steps.size:
        return span
    return next((unit for unit in SPANS if unit <= span and unit * reach <= 1.0), SPANS[-1])


def label_of(unit: int) -> str:
    """The label of the axis."""
    return f"in ← % of |w| per {f'{unit:,} steps' if unit > 1 else 'step'} → out"


def picture_range(
    columns: Mapping[str, Array], curve: ForceCurves, stages: Sequence[Stage], by_rate: bool
) -> list[float]:
    """Lowest and highest value of the picture: all of each stage but its start and what is rare."""
    scale = np.ones_like(curve.lr)
    if by_rate:
        scale = np.divide(1.0, curve.lr, out=np.full_like(scale, np.nan), where=curve.lr > 0)
    outer, inner = columns["outer"] * scale, -columns["inner"] * scale
    high, low = (_reach(side, curve, stages) for side in (outer, inner))
    whole = high + low
    if not whole > 0:
        return [-1.0, 1.0]
    return [-MARGIN * max(low, LEAST * whole), MARGIN * max(high, LEAST * whole)]


def _reach(values: Array, curve: ForceCurves, stages: Sequence[Stage]) -> float:
    """How far the picture reaches to one side of zero."""
    found = 0.0
    for stage in stages:
        inside = (curve.first >= stage.start) & (curve.last < stage.stop) & np.isfinite(values)
        late = inside & ~curve.early
        here = values[late if late.any() else inside]
        if here.size:
            largest, reach = float(here.max()), ROOM * float(np.quantile(here, 0.75))
            found = max(found, largest if largest <= SPARE * reach else reach)
    return found


def columns_of(curve: ForceCurves, scale: float) -> dict[str, Array]:
    """Edges of the areas and the signed parts, in percent, outward above zero."""
    told_apart = np.isfinite(curve.decay)
    decay, loss = (scale * np.where(told_apart, part, 0.0) for part in (curve.decay, curve.loss))
    both = scale * np.where(told_apart, 0.0, curve.inward)
    turning = scale * curve.turning
    turned = np.maximum(turning, 0.0)
    lost_out = turned + np.maximum(-loss, 0.0)
    lost_in = -np.maximum(loss, 0.0) - decay
    found = {
        "x": curve.steps,
        "lr": curve.lr,
        "zero": np.zeros_like(turned),
        "turned_out": turned,
        "lost_out": lost_out,
        "both_out": lost_out + np.maximum(-both, 0.0),
        "decayed": -decay,
        "lost_in": lost_in,
        "both_in": lost_in - np.maximum(both, 0.0),
        "turned_in": lost_in - np.maximum(both, 0.0) + np.minimum(turning, 0.0),
        "turning": turning,
        "loss": np.where(told_apart, -loss, np.nan),
        "decay": np.where(told_apart, -decay, np.nan),
        "both": np.where(told_apart, np.nan, -both),
        "growth": scale * curve.growth,
        "missing": scale * curve.missing,
    }
    # Where the law failed, the parts are not to be trusted, and the line alone counts.
    for name, edge, farther in (
        ("outer", "both_out", np.maximum), ("inner", "turned_in", np.minimum)
    ):  # fmt: skip
        found[name] = np.where(curve.failed, found["growth"], farther(found[edge], found["growth"]))
    return {name: values.astype(np.float32) for name, values in found.items()}
