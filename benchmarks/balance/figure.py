"""The law in one picture: measured against predicted turning, for three laws (Chromium is needed).

Draws docs/balance.png from docs/balance.json: `python -m balance.figure` in benchmarks/. One point
is one matrix in one window of 500 steps of one run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance.photograph import photograph
from balance.training import OPTIMIZERS

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = ["draw"]

ROOT = Path(__file__).parents[2]
PANELS = (
    ("plain", "plain law: weight decay alone, at rest"),
    ("rest", "with the loss's pull, at rest"),
    ("balance", "balance law: pull and growth"),
)
COLOURS = dict(zip(OPTIMIZERS, ("#1f5fbf", "#3fa34d", "#e08a1e", "#a13d63"), strict=True))
RANGE = (3e-5, 0.05)
SIZE = (400, 400)


def draw(results: dict[str, Any], picture: Path) -> None:
    """Write the picture of the results that `run` keeps."""
    from bokeh.layouts import gridplot

    charts = [chart(results, key, title) for key, title in PANELS]
    grid = gridplot([charts], toolbar_location=None)
    photograph(grid, picture, width=3 * SIZE[0] + 30, height=SIZE[1] + 20)


def chart(results: dict[str, Any], key: str, title: str) -> figure:
    """One law: predicted on the x axis, measured on the y axis, both root mean square."""
    from bokeh.plotting import figure

    made = figure(
        title=title,
        width=SIZE[0],
        height=SIZE[1],
        x_axis_type="log",
        y_axis_type="log",
        x_range=RANGE,
        y_range=RANGE,
        x_axis_label="predicted √(Σ|d|² / Σ|w|²)",
        y_axis_label="measured",
    )
    made.line(RANGE, RANGE, color="#9aa3ad", line_width=1)
    for optimizer, colour in COLOURS.items():
        found = points(results, optimizer, key)
        made.scatter(
            [predicted for predicted, _ in found],
            [measured for _, measured in found],
            size=4,
            color=colour,
            alpha=0.6,
            line_color=None,
            legend_label=optimizer,
        )
    made.legend.location = "bottom_right"
    made.legend.glyph_height = made.legend.label_height = 14
    made.legend.spacing = 2
    return made


def points(results: dict[str, Any], optimizer: str, key: str) -> list[tuple[float, float]]:
    """(predicted, measured) of every window for which the law predicts a motion."""
    found = []
    for run in results["runs"]:
        if run["optimizer"] != optimizer:
            continue
        for matrix in run["matrices"]:
            for window in matrix["windows"]:
                ratio = window[key]
                if ratio is not None and math.isfinite(ratio):
                    found.append((window["measured"] / ratio, window["measured"]))
    return found


if __name__ == "__main__":
    draw(
        json.loads((ROOT / "docs/balance.json").read_text(encoding="utf-8")),
        ROOT / "docs/balance.png",
    )
