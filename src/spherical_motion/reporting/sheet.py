"""The parts that all charts of a page share: steps, crosshair, stages, look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from bokeh import models
from bokeh.plotting import figure

from spherical_motion.reporting.wording import stage_title
from spherical_motion.vocabulary import Stage

INK = "#1c2530"
_MUTED, _HAIRLINE, _BOUNDARY = "#5a6675", "#e3e7ec", "#9aa5b1"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


class Sheet:
    """Makes charts that move together.

    Args:
        first, last: the recorded steps, which all charts show.
        stages: their beginnings become vertical lines.
        shown: indices of the groups drawn at first; the page changes them through the filter
            named "shown".
    """

    def __init__(
        self, first: int, last: int, stages: Sequence[Stage], shown: Sequence[int]
    ) -> None:
        margin = max((last - first) * 0.01, 0.5)
        self._steps = models.Range1d(start=first - margin, end=last + margin, name="steps")
        self._last = last
        self._stages = stages
        self._crosshair = models.Span(dimension="height", line_color=_MUTED, line_width=1)
        self._shown = models.IndexFilter(indices=list(shown), name="shown")

    def chart(
        self, title: str, y_label: str, height: int, y_axis_type: Literal["linear", "log"]
    ) -> figure:
        """An empty chart; `height` in pixels."""
        chart = figure(
            title=models.Title(text=title, text_font=_FONT, text_font_size="14px", text_color=INK),
            height=height,
            sizing_mode="stretch_width",
            x_range=self._steps,
            y_axis_type=y_axis_type,
            y_axis_label=y_label,
            tools="box_zoom,xpan,xwheel_zoom,undo,reset,save",
            active_drag="box_zoom",
            active_scroll=None,
            min_border_top=26,
            min_border_left=78,
            min_border_right=64,
            outline_line_color=None,
        )
        chart.add_tools(models.CrosshairTool(overlay=self._crosshair))
        chart.grid.grid_line_color = _HAIRLINE
        chart.xaxis.ticker = chart.xgrid.ticker = models.BasicTicker(min_interval=1)
        chart.xaxis.formatter = models.NumeralTickFormatter(format="0,0")
        for axis in chart.axis:
            self.style(axis)
        for stage in self._stages[1:]:
            look = {"line_color": _BOUNDARY, "line_width": 1}
            chart.add_layout(models.Span(location=stage.start, dimension="height", **look))
        return chart

    def style(self, axis: models.Axis) -> None:
        """Give an axis the look of the page."""
        axis.update(
            axis_line_color=_HAIRLINE,
            major_tick_line_color=None,
            minor_tick_line_color=None,
            major_label_text_color=_MUTED,
            major_label_text_font=_FONT,
            major_label_text_font_size="12px",
            axis_label_text_color=_MUTED,
            axis_label_text_font=_FONT,
            axis_label_text_font_size="12px",
            axis_label_text_font_style="normal",
        )

    def name_stages(self, chart: figure) -> None:
        """Write each stage's settings above its middle, wherever there is room for it."""
        middles: dict[Any, Any] = {
            (stage.start + min(stage.stop, self._last + 1)) / 2: stage_title(number, stage)
            for number, stage in enumerate(self._stages, start=1)
        }
        policy = models.NoOverlap(min_distance=12)
        axis = models.LinearAxis(major_label_overrides=middles, major_label_policy=policy)
        self.style(axis)
        axis.update(ticker=models.FixedTicker(ticks=list(middles)), axis_line_color=None)
        chart.add_layout(axis, "above")

    def group_lines(self, chart: figure, source: models.ColumnDataSource) -> models.GlyphRenderer:
        """One line a group; only those in the shared filter are drawn."""
        view = models.CDSView(filter=self._shown)
        look: dict[str, Any] = {"line_color": "color", "line_cap": "round", "line_join": "round"}
        return chart.multi_line("xs", "ys", source=source, view=view, **look)
