"""Which groups a chart shows at first, and in which colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spherical_motion.comparison import Comparison
from spherical_motion.vocabulary import Tone

MOST_SHOWN = 8
"""The eye follows no more lines in one chart."""

DISTINCT_COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#b8588f",
    "#8a6d00",
    "#3aa5e0",
    "#4b4b4b",
    "#7a3fb0",
)
"""Okabe and Ito's colours, the light ones darkened for thin lines on white."""

_DEPTH = ("#2d1e5f", "#3b4f8c", "#2f7f8e", "#2fa277", "#86b43c", "#d3a017", "#d9702b")
"""From the first layer to the last; lightness rises with depth, so colour-blind eyes see it too."""


def depth_colors(count: int) -> list[str]:
    """A scale from the first group's colour to the last's, for when many are shown.

    >>> depth_colors(20)[0], depth_colors(20)[-1]
    ('#2d1e5f', '#d9702b')
    """
    anchors = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in _DEPTH], float)
    at, places = np.linspace(0, len(_DEPTH) - 1, count), range(len(_DEPTH))
    channels = [np.interp(at, places, channel).round() for channel in anchors.T]
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in zip(*channels, strict=True)]


def first_colors(count: int, shown: Sequence[int]) -> list[str]:
    """The colours to begin with: distinct for the groups shown, by depth for the others.

    >>> first_colors(3, shown=[0, 2])
    ['#0072b2', '#2fa277', '#d55e00']
    """
    colors = depth_colors(count)
    for color, index in zip(DISTINCT_COLORS, shown, strict=False):
        colors[index] = color
    return colors


def representative_groups(comparison: Comparison) -> list[int]:
    """Indices of at most `MOST_SHOWN` groups, in order of depth.

    Up to half are those whose verdict asks for attention, farthest from the prediction first;
    the others are spread evenly from the first group to the last.
    """
    count = len(comparison.groups)
    if count <= MOST_SHOWN:
        return list(range(count))
    position = {group: i for i, group in enumerate(comparison.groups)}
    urgency: dict[int, float] = {}
    for row in comparison.rows:
        if row.tone in (Tone.ALARM, Tone.CAUTION):
            i = position[row.group]
            known = 0 < row.ratio < math.inf  # a missing ratio counts as infinitely far from 1
            urgency[i] = max(urgency.get(i, 0.0), abs(math.log(row.ratio)) if known else math.inf)
    chosen = set(sorted(urgency, key=lambda i: (-urgency[i], i))[: MOST_SHOWN // 2])
    spread = np.linspace(0, count - 1, MOST_SHOWN - len(chosen)).round().astype(int)
    return sorted(chosen | set(spread.tolist()))
