"""The tug-of-war of a GPT: what pulls four of its matrices in, and what pushes them out.

Draws docs/tug_of_war.png: `python -m balance.tug_of_war` in benchmarks/ (Chromium is needed).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import spherical_motion as smd
from balance.catalogue import NETS
from balance.measuring import recorded
from balance.photograph import photograph
from balance.training import Setting
from spherical_motion.comparison import ForceCurves

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = ["draw"]

PICTURE = Path(__file__).parents[2] / "docs/tug_of_war.png"
NET = "GPT, untied"
GROUPS = ("token", "blocks.0.qkv", "blocks.1.down", "head")
SETTING = Setting("AdamW", "cosine", steps=2000)
SPAN = 100
"""Rates are given per so many steps."""

SKIP = 400
"""The warm-up, in which all rates are large, is left out."""

SIZE = (310, 300)
LINES = (("turning", "#3fa34d"), ("loss", "#e08a1e"), ("decay", "#1f5fbf"), ("growth", "#1c2530"))


def draw(picture: Path) -> None:
    """Train the GPT and draw one chart a matrix."""
    from bokeh.layouts import gridplot

    (net,) = (net for net in NETS if net.name == NET)
    with tempfile.TemporaryDirectory() as directory:
        _, records = recorded(net, SETTING, Path(directory) / "run")
        comparison = smd.compare(records)
        charts = [chart(comparison.forces(group), group) for group in GROUPS]
    grid = gridplot([charts], toolbar_location=None)
    photograph(grid, picture, width=len(GROUPS) * SIZE[0] + 30, height=SIZE[1] + 20)


def chart(forces: ForceCurves, title: str) -> figure:
    """Outward is up: turning, the loss and the decay, and what is left of them."""
    from bokeh.plotting import figure

    late = forces.steps >= SKIP
    outward = {
        "turning": forces.turning,
        "loss": -forces.loss,
        "decay": -forces.decay,
        "growth": forces.growth,
    }
    made = figure(
        title=title,
        width=SIZE[0],
        height=SIZE[1],
        x_axis_label="optimizer step",
        y_axis_label=f"% of |w| per {SPAN} steps, outward is up",
    )
    made.line([0, SETTING.steps], [0, 0], color="#9aa3ad", line_width=1)
    for name, colour in LINES:
        values = 100.0 * SPAN * outward[name][late]
        made.line(forces.steps[late], values, color=colour, line_width=2, legend_label=name)
    made.legend.location = "top_right"
    made.legend.glyph_height = made.legend.label_height = 12
    made.legend.label_text_font_size = "10px"
    made.legend.spacing = 1
    made.legend.background_fill_alpha = 0.6
    return made


if __name__ == "__main__":
    draw(PICTURE)
