"""Simulated norms beside their value at rest, as one page of charts that needs no network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.reporting.writing import missing_extra, page_file, write_page

if TYPE_CHECKING:
    from bokeh.plotting import figure

SIMULATED, AT_REST, DRIVE = "#1f5fbf", "#1c2530", "#e08a1e"


@dataclasses.dataclass(frozen=True, slots=True)
class NormPanel:
    """One chart: |w|² as simulated and at rest, and its drive; arrays of shape (points,).

    Attributes:
        title: above the chart.
        step: optimizer steps.
        simulated: |w|².
        at_rest: |w*|² for the drive expected at each step; NaN where there is none.
        drive: L_t, on the right axis; None leaves it out.
    """

    title: str
    step: NDArray[Any]
    simulated: NDArray[np.float64]
    at_rest: NDArray[np.float64]
    drive: NDArray[np.float64] | None = None


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
    target = page_file("write_norm_page", path, "norms.html")
    try:
        from bokeh.embed import file_html
        from bokeh.layouts import gridplot
        from bokeh.resources import INLINE
    except ImportError as error:
        raise missing_extra("The page of charts", "bokeh") from error
    charts = [_chart(panel, size) for panel in panels]
    grid = gridplot(charts, ncols=columns, toolbar_location=None)  # type: ignore[arg-type]
    return write_page(target, file_html(grid, INLINE, title))


def _chart(panel: NormPanel, size: tuple[int, int]) -> figure:
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
    if panel.drive is not None:
        look = {"color": DRIVE, "alpha": 0.5, "legend_label": "drive L (right)"}
        drawn: list[Any] = [chart.line(panel.step, panel.drive, y_range_name="drive", **look)]
        scale = DataRange1d(start=0.0, renderers=drawn)
        chart.extra_y_ranges = {"drive": scale}
        chart.add_layout(LinearAxis(y_range_name="drive", axis_label="L"), "right")
    solid = {"color": SIMULATED, "line_width": 2, "legend_label": "simulated"}
    dashed = {"color": AT_REST, "line_width": 1.5, "legend_label": "at rest (theory)"}
    left: list[Any] = [
        chart.line(panel.step, panel.simulated, **solid),
        chart.line(panel.step, panel.at_rest, line_dash="dashed", **dashed),
    ]
    chart.y_range = DataRange1d(start=0.0, renderers=left)
    chart.legend.location = "bottom_right"
    chart.legend.background_fill_alpha = 0.75
    chart.legend.label_text_font_size = "10px"
    chart.legend.glyph_height = chart.legend.label_height = 12
    chart.legend.spacing = 3
    return chart
