"""Line charts in a terminal: braille cells, two dots wide and four high each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.text import Text

Array = NDArray[np.float64]
Cells = NDArray[np.int64]
Colours = NDArray[np.object_]

DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Bit of each dot in a braille character, by row and column."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One curve: a name, points of increasing x, a colour; `dashed` leaves out every other dot."""

    name: str
    x: ArrayLike
    y: ArrayLike
    colour: str = "default"
    dashed: bool = False


def line_chart(
    lines: Sequence[Line], *, width: int = 72, height: int = 14, log: bool = False
) -> Text:
    """The curves over a common x axis, later ones on top; NaN, and on a log axis y <= 0, are gaps.

    Args:
        lines: at least one with a finite value.
        width, height: of the plot in characters, without its axes.
        log: logarithmic y axis.
    """
    x0, x1 = _range([np.asarray(line.x, np.float64) for line in lines])
    heights = [_scaled(line.y, log) for line in lines]
    y0, y1 = _padded(*_range(heights))
    cells = np.zeros((height, width), dtype=np.int64)
    colours = np.full((height, width), "default", dtype=object)
    across = x0 + (x1 - x0) * (np.arange(2 * width) + 0.5) / (2 * width)
    for line, y in zip(lines, heights, strict=True):
        seen = np.interp(across, np.asarray(line.x, np.float64), y, left=np.nan, right=np.nan)
        dots = np.floor((y1 - seen) / (y1 - y0) * (4 * height - 1) + 0.5)
        _draw(cells, colours, dots, line)
    return _framed(cells, colours, (x0, x1), (y0, y1), log) + _legend(lines)


def _draw(cells: Cells, colours: Colours, dots: Array, line: Line) -> None:
    before = math.nan
    for column, dot in enumerate(dots.tolist()):
        if not math.isnan(dot) and not (line.dashed and column % 4 > 1):
            # Join to the column before, so that a steep curve stays one curve.
            start = dot if math.isnan(before) or line.dashed else before
            for row in range(int(min(start, dot)), int(max(start, dot)) + 1):
                cells[row // 4, column // 2] |= DOTS[row % 4, column % 2]
                colours[row // 4, column // 2] = line.colour
        before = dot


def _framed(
    cells: Cells, colours: Colours, xs: tuple[float, float], ys: tuple[float, float], log: bool
) -> Text:
    height, width = cells.shape
    ticks = {0: ys[1], height // 2: (ys[0] + ys[1]) / 2, height - 1: ys[0]}
    labels = {row: f"{10**y if log else y:.3g}" for row, y in ticks.items()}
    margin = max(map(len, labels.values()))
    text = Text()
    for row in range(height):
        text.append(f"{labels.get(row, ''):>{margin}} ┤" if row in labels else " " * margin + " │")
        for column in range(width):
            text.append(chr(0x2800 + int(cells[row, column])), style=colours[row, column])
        text.append("\n")
    left, right = f"{xs[0]:,.0f}", f"{xs[1]:,.0f}"
    text.append(" " * margin + " └" + "─" * width + "\n")
    text.append(" " * (margin + 2) + left + right.rjust(width - len(left)) + "\n")
    return text


def _legend(lines: Sequence[Line]) -> Text:
    text = Text("  ")
    for line in lines:
        text.append("╌╌ " if line.dashed else "── ", style=line.colour)
        text.append(f"{line.name}   ")
    return text


def _scaled(values: ArrayLike, log: bool) -> Array:
    y = np.asarray(values, np.float64)
    if not log:
        return np.where(np.isfinite(y), y, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(y > 0, np.log10(y), np.nan)


def _range(series: Sequence[Array]) -> tuple[float, float]:
    finite = np.concatenate([values[np.isfinite(values)] for values in series])
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range with a margin, also for a constant curve."""
    margin = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
