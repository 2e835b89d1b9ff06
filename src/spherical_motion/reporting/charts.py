"""The interactive charts, as one Bokeh model: angle, norm, learning rate and loss over the steps.

The page's own script finds by name the filter `shown`, the data sources of the groups (named as in
`lines`), and for angle and norm the glyph `measured_...`, whose opacity it sets, and the hover tool
`hover_...`, whose tooltips it writes.

No string of the run enters a text or a template that Bokeh parses: Bokeh would take `$$` for
mathematics and `@` for a column. Names stand in data columns only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from bokeh import models
from bokeh.layouts import gridplot
from bokeh.plotting import figure

from spherical_motion.reporting.lines import GroupLines, ScalarLine
from spherical_motion.reporting.selection import DISTINCT_COLORS
from spherical_motion.reporting.sheet import INK, Sheet
from spherical_motion.reporting.thinning import is_lone
from spherical_motion.vocabulary import Stage

MARGIN = 1.08
"""The picture of the learning rate reaches to this many times the highest."""


def draw_charts(
    lines: GroupLines,
    names: Sequence[str],
    colors: Sequence[str],
    shown: Sequence[int],
    stages: Sequence[Stage],
    losses: Sequence[ScalarLine] = (),
    accuracies: Sequence[ScalarLine] = (),
) -> models.Model:
    """Four charts above each other, three without losses and accuracies.

    Args:
        lines: from `collect_lines`.
        names: of the groups, shown in tooltips only.
        colors: one a group.
        shown: indices of the groups to begin with.
        stages: drawn as vertical lines, and named above the first chart.
        losses: on the left axis of the last chart.
        accuracies: on its right axis, or on the left one if there are no losses.
    """
    logged = [step for line in (*losses, *accuracies) for step in line.steps[[0, -1]].tolist()]
    sheet = Sheet(min([lines.first, *logged]), max([lines.last, *logged]), stages, shown)
    columns = {
        name: {**values, "name": list(names), "color": list(colors)}
        for name, values in lines.columns.items()
    }
    charts = [
        _group_chart(sheet, "angle", columns, "Angle per step", "angle (rad)", height=400),
        _group_chart(sheet, "norm", columns, "Weight norm", "norm ‖w‖", height=260),
    ]
    sheet.name_stages(charts[0])
    charts.append(_rate_chart(sheet, lines.rates))
    if losses or accuracies:
        charts.append(_scalar_chart(sheet, losses, accuracies))
    charts[-1].xaxis[-1].axis_label = "optimizer step"
    look: dict[str, Any] = {"sizing_mode": "stretch_width", "toolbar_location": "right"}
    grid = gridplot([[chart] for chart in charts], toolbar_options={"logo": None}, **look)
    grid.update(spacing=14)
    return grid


def _group_chart(
    sheet: Sheet, quantity: str, columns: dict[str, Any], title: str, y_label: str, height: int
) -> figure:
    """Measured (solid) and predicted (dashed) for each group, with the equilibrium if known."""
    chart = sheet.chart(title, y_label, height, "log")

    def draw(column: str, **look: object) -> Any:
        renderer = sheet.group_lines(chart, models.ColumnDataSource(columns[column], name=column))
        renderer.glyph.update(**look)
        return renderer

    equilibrium = f"equilibrium_{quantity}"
    if equilibrium in columns:
        draw(equilibrium, line_dash=[1, 5], line_width=1.6, line_color=INK)
    drawn: list[Any] = [
        draw(quantity, line_width=1.6, name=f"measured_{quantity}"),
        draw(f"lone_{quantity}", line_width=5),
        draw(f"predicted_{quantity}", line_width=2, line_dash=[7, 4]),
    ]
    _ensure_range(chart, [ys for r in drawn for ys in r.data_source.data["ys"]])
    chart.add_tools(
        models.HoverTool(name=f"hover_{quantity}", renderers=drawn, tooltips=None, limit=6)
    )
    return chart


def _scalar_chart(
    sheet: Sheet, losses: Sequence[ScalarLine], accuracies: Sequence[ScalarLine]
) -> figure:
    """Losses on the left axis, accuracies on the right; accuracies alone on the left."""
    left, label = (losses, "loss") if losses else (accuracies, "accuracy")
    title = "Loss and accuracy" if losses and accuracies else label.capitalize()
    chart = sheet.chart(title, label, 240, _axis_type([line.values for line in left]))
    renderers = _draw_plain(chart, left, DISTINCT_COLORS)
    _ensure_range(chart, [line.values for line in left])
    if losses and accuracies:
        if isinstance(chart.y_range, models.DataRange1d):
            chart.y_range.renderers = renderers
        chart.extra_y_scales = {"right": models.LinearScale()}
        axis = models.LinearAxis(y_range_name="right", axis_label="accuracy")
        sheet.style(axis)
        chart.add_layout(axis, "right")
        accuracy_range = models.DataRange1d()
        chart.extra_y_ranges = {"right": accuracy_range}
        rest = DISTINCT_COLORS[len(losses) % len(DISTINCT_COLORS) :] + DISTINCT_COLORS
        on_the_right = _draw_plain(chart, accuracies, rest, axis="right")
        accuracy_range.renderers = on_the_right
        renderers = [*renderers, *on_the_right]
    tooltips = [("", "@name"), ("step", "$snap_x{0,0}"), ("value", "$snap_y{0.0000}")]
    chart.add_tools(models.HoverTool(renderers=renderers, tooltips=tooltips, limit=4))
    return chart


def _rate_chart(sheet: Sheet, rates: Sequence[ScalarLine]) -> figure:
    """The distinct learning rate curves."""
    kind = _axis_type([line.values for line in rates])
    chart = sheet.chart("Learning rate", "lr", 190, kind)
    renderers = _draw_plain(chart, rates, [INK])
    _ensure_range(chart, [line.values for line in rates])
    highest = max((float(np.nanmax(line.values, initial=0.0)) for line in rates), default=0.0)
    if kind == "linear" and highest > 0:
        # Around a constant Bokeh would show half a unit to both sides, and rates below 0.
        chart.y_range = models.Range1d(start=0.0, end=MARGIN * highest)
    tooltips = [("", "@name"), ("step", "$snap_x{0,0}"), ("lr", "$snap_y{0.00e+0}")]
    chart.add_tools(models.HoverTool(renderers=renderers, tooltips=tooltips, limit=1))
    return chart


def _draw_plain(
    chart: figure, lines: Sequence[ScalarLine], palette: Sequence[str], axis: str = "default"
) -> list[Any]:
    """Solid lines, and dots for points that stand alone; the renderers of both."""
    colors = [palette[i % len(palette)] for i in range(len(lines))]
    whole = {
        "xs": [line.steps for line in lines],
        "ys": [line.values for line in lines],
        "name": [line.name for line in lines],
        "color": colors,
    }
    lone = [np.flatnonzero(is_lone(line.values)) for line in lines]
    counts = [len(places) for places in lone]
    points = list(zip(lines, lone, strict=True))
    dots = {
        "x": np.concatenate([np.empty(0), *(line.steps[places] for line, places in points)]),
        "y": np.concatenate([np.empty(0), *(line.values[places] for line, places in points)]),
        "name": np.repeat(whole["name"], counts).tolist(),
        "color": np.repeat(colors, counts).tolist(),
    }
    look = {"line_color": "color", "line_width": 1.3, "line_alpha": 0.85, "line_join": "round"}
    solid, alone = models.ColumnDataSource(whole), models.ColumnDataSource(dots)
    return [
        chart.multi_line("xs", "ys", source=solid, y_range_name=axis, **look),
        chart.scatter("x", "y", source=alone, y_range_name=axis, color="color", size=5),
    ]


def _ensure_range(chart: figure, series: Sequence[np.ndarray]) -> None:
    """Fix the range of an axis without any finite value: Bokeh cannot find one."""
    if not any(np.isfinite(values).any() for values in series):
        chart.y_range = models.Range1d(start=0.1, end=10.0)


def _axis_type(series: Sequence[np.ndarray]) -> Literal["linear", "log"]:
    """Logarithmic for positive values that span more than a factor of twenty."""
    values = np.concatenate([np.empty(0), *series])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 20.0 * values.min():
        return "log"
    return "linear"
