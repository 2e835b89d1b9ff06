"""The tug-of-war of a GPT: what pulls four of its matrices in, and what pushes them out.

Draws docs/tug_of_war.png: `python -m balance.tug_of_war` in benchmarks/ (Chromium is needed).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spherical_motion as smd
from balance.catalogue import NETS
from balance.measuring import recorded
from balance.photograph import photograph
from balance.training import Setting
from spherical_motion.comparison import ForceCurves
from spherical_motion.reporting.sheet import INK
from spherical_motion.reporting.tug_chart import (
    AREAS,
    DECAY,
    LOSS,
    TURNING,
    columns_of,
    picture_range,
)
from spherical_motion.vocabulary import Stage

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = ["draw"]

PICTURE = Path(__file__).parents[2] / "docs/tug_of_war.png"
NET = "GPT, untied"
GROUPS = ("token", "blocks.0.qkv", "blocks.1.down", "head")
SETTING = Setting("AdamW", "cosine", steps=2000)
SPAN = 100
"""Rates are given per so many steps."""

SIZE = (310, 320)
NAMES = {TURNING: "turning", LOSS: "loss", DECAY: "decay"}


def draw(picture: Path) -> None:
    """Train the GPT and draw one chart a matrix."""
    from bokeh.layouts import gridplot

    (net,) = (net for net in NETS if net.name == NET)
    with tempfile.TemporaryDirectory() as directory:
        _, records = recorded(net, SETTING, Path(directory) / "run")
        comparison = smd.compare(records)
        charts = [
            chart(comparison.forces(group), group, comparison.stages(group)) for group in GROUPS
        ]
    grid = gridplot([charts], toolbar_location=None)
    photograph(grid, picture, width=len(GROUPS) * SIZE[0] + 30, height=SIZE[1] + 20)


def chart(forces: ForceCurves, title: str, stages: Sequence[Stage]) -> figure:
    """What pushes outward above 0, what pulls inward below, and the growth that is left."""
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    columns = columns_of(forces, 100.0 * SPAN)
    low, high = picture_range(columns, forces, stages, by_rate=False)
    made = figure(
        title=title,
        width=SIZE[0],
        height=SIZE[1],
        x_axis_label="optimizer step",
        y_axis_label=f"in ← % of |w| per {SPAN} steps → out",
        y_range=Range1d(start=low, end=high),
    )
    for lower, upper, color in AREAS:
        named: dict[str, Any] = {"legend_label": NAMES[color]} if color in NAMES else {}
        made.varea(
            columns["x"], columns[lower], columns[upper], color=color, fill_alpha=0.75, **named
        )
    made.line([0, SETTING.steps], [0, 0], color=INK, line_width=1, line_alpha=0.5)
    made.line(columns["x"], columns["growth"], color=INK, line_width=2.5, legend_label="growth")
    made.legend.location = "top_right"
    made.legend.glyph_height = made.legend.label_height = 12
    made.legend.label_text_font_size = "10px"
    made.legend.spacing = 1
    made.legend.background_fill_alpha = 0.6
    return made


if __name__ == "__main__":
    draw(PICTURE)
