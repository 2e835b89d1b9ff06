"""Simulated norms against their value at rest, as one page of charts that needs no network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.records.durable import publish

__all__ = ["NormPanel", "write_norm_page"]

SIMULATED, AT_REST, DRIVE = "#1f5fbf", "#1c2530", "#e08a1e"


@dataclasses.dataclass(frozen=True, slots=True)
class NormPanel:
    """One chart: |w|² as simulated and at rest, and what drives it; arrays of shape (points,).

    Attributes:
        title: above the chart.
        step: optimizer steps.
        simulated: |w|².
        at_rest: |w*|² for the drive expected at each step; NaN where there is none.
        drive: L_t, on the right axis; None leaves it out.
    """

    title: str
    step: Any
    simulated: Any
    at_rest: Any
    drive: Any = None


def write_norm_page(
    path: str | os.PathLike[str],
    panels: Sequence[NormPanel],
    title: str,
    *,
    columns: int = 1,
    size: tuple[int, int] = (900, 420),
) -> Path:
    """Draw the panels, `columns` in a row, each of `size` pixels; returns where.

    Raises:
        InvalidArgument: `path` is a directory.
        MissingExtra: Bokeh is not installed.
    """
    target = Path(path)
    if target.is_dir():
        raise InvalidArgument(
            f"write_norm_page(path=...) expects a file to write, got the directory {target}. "
            f"Use {target / 'norms.html'}."
        )
    try:
        from bokeh.embed import file_html
        from bokeh.layouts import gridplot
        from bokeh.resources import INLINE
    except ImportError as error:
        raise MissingExtra(
            "The page of charts needs bokeh, which is not installed. "
            "Run: pip install 'spherical-motion[report]'"
        ) from error
    charts = [_chart(panel, size) for panel in panels]
    grid = gridplot(charts, ncols=columns, toolbar_location=None)  # type: ignore[arg-type]
    page = file_html(grid, INLINE, title)
    target.parent.mkdir(parents=True, exist_ok=True)
    publish(target, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return target


def _chart(panel: NormPanel, size: tuple[int, int]) -> Any:
    from bokeh.models import DataRange1d, LinearAxis, NumeralTickFormatter
    from bokeh.plotting import figure

    chart = figure(
        title=panel.title,
        width=size[0],
        height=size[1],
        x_axis_label="optimizer step",
        y_axis_label="‖w‖²",
        tools="box_zoom,xpan,xwheel_zoom,reset,save,hover",
    )
    chart.xaxis.formatter = NumeralTickFormatter(format="0 a")
    lines: list[Any] = []
    if panel.drive is not None:
        lines.append(
            chart.line(
                panel.step,
                panel.drive,
                color=DRIVE,
                alpha=0.5,
                y_range_name="drive",
                legend_label="drive L (right)",
            )
        )
        scale = DataRange1d(start=0.0, renderers=lines[:1])
        chart.extra_y_ranges = {"drive": scale}
        chart.add_layout(LinearAxis(y_range_name="drive", axis_label="L"), "right")
    left: list[Any] = [
        chart.line(
            panel.step, panel.simulated, color=SIMULATED, line_width=2, legend_label="simulated"
        ),
        chart.line(
            panel.step,
            panel.at_rest,
            color=AT_REST,
            line_width=1.5,
            line_dash="dashed",
            legend_label="at rest (theory)",
        ),
    ]
    chart.y_range = DataRange1d(start=0.0, renderers=left)
    chart.legend.location = "bottom_right"
    chart.legend.background_fill_alpha = 0.75
    chart.legend.label_text_font_size = "10px"
    chart.legend.glyph_height = chart.legend.label_height = 12
    chart.legend.spacing = 3
    return chart
