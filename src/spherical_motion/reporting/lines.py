"""From a comparison's curves to the columns a chart draws: thinned, typed small, gaps kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from spherical_motion.comparison import Comparison
from spherical_motion.reporting.thinning import is_lone, points_to_keep
from spherical_motion.vocabulary import Stage

_MEASURED = ("angle", "norm")
"""Curves that may jitter and have gaps."""

_QUANTITIES = ("angle", "predicted_angle", "equilibrium_angle", "norm", "predicted_norm")
"""The curves drawn for each group. All are positive, so a logarithmic axis can show them."""

COLUMNS = (*_QUANTITIES, *(f"lone_{name}" for name in _MEASURED))
"""The curves, and for the measured ones the points that stand alone."""

_BUCKETS = 1200
"""About one for each pixel of a chart's width."""
_BUCKETS_OF_ALL_GROUPS = 64_000
"""Shared by all groups, so that the file of a very deep network still opens."""
_FEWEST_BUCKETS = 100
_SMOOTHER = 4
"""Predictions hardly jitter: a quarter of the buckets draws the same line."""
_DOT = np.array([0.999, 1.001, np.nan], dtype=np.float32)
"""Times a value: the ends of a line around it, and a gap. Bokeh draws no line of length 0."""

Numbers = NDArray[np.integer | np.floating]
Columns = dict[str, list[Numbers]]


@dataclasses.dataclass(frozen=True, slots=True)
class ScalarLine:
    """One number over the run, ready to draw."""

    name: str
    steps: Numbers
    values: NDArray[np.floating]


@dataclasses.dataclass(frozen=True, slots=True)
class GroupLines:
    """The lines of the group charts.

    Attributes:
        columns: for each of `COLUMNS`, {"xs": steps, "ys": values}, one array a group. A point
            that stands alone is a line so short that its round caps make a dot.
        rates: one line for each distinct learning rate curve, named by how many groups have it.
        first, last: range of recorded steps; 0 and 1 if there are none.
        recorded, drawn: points of one measured curve before thinning, and at most after.
    """

    columns: dict[str, Columns]
    rates: tuple[ScalarLine, ...]
    first: int
    last: int
    recorded: int
    drawn: int


def collect_lines(comparison: Comparison) -> GroupLines:
    """Thin all curves of all groups; many groups share a fixed number of points."""
    count = max(len(comparison.groups), 1)
    buckets = min(_BUCKETS, max(_BUCKETS_OF_ALL_GROUPS // count, _FEWEST_BUCKETS))
    breaks = [stage.start for stage in common_stages(comparison)]
    columns: dict[str, Columns] = {name: {"xs": [], "ys": []} for name in COLUMNS}
    rates: dict[bytes, list[ScalarLine]] = {}
    ends: list[int] = []
    recorded = 0

    for group in comparison.groups:
        curves = comparison.curves(group)
        steps = np.asarray(curves.steps)
        for name in _QUANTITIES:
            values = np.asarray(getattr(curves, name), dtype=np.float64)
            positive = np.where(values > 0, values, np.nan)
            detail = buckets if name in _MEASURED else buckets // _SMOOTHER
            x, y = _drawable(steps, positive, detail, breaks)
            columns[name]["xs"].append(x)
            columns[name]["ys"].append(y)
            if name in _MEASURED:
                lone, dots = is_lone(y), columns[f"lone_{name}"]
                dots["xs"].append(np.repeat(x[lone], len(_DOT)))
                dots["ys"].append(np.outer(y[lone], _DOT).ravel())
        if len(steps):
            ends += [int(steps[0]), int(steps[-1])]
            recorded = max(recorded, len(steps))
            lr = np.asarray(curves.lr, dtype=np.float64)
            line = ScalarLine(group, *_drawable(steps, lr, buckets, breaks))
            rates.setdefault(steps.tobytes() + lr.tobytes(), []).append(line)

    named = [(same[0], f"{len(same)} of {count} groups") for same in rates.values()]
    return GroupLines(
        columns=columns,
        rates=tuple(dataclasses.replace(line, name=name) for line, name in named),
        first=min(ends, default=0),
        last=max(ends, default=1),
        recorded=recorded,
        drawn=min(recorded, 2 * buckets),
    )


def scalar_lines(comparison: Comparison, word: str) -> list[ScalarLine]:
    """Logged scalars with a part of their name that begins with `word`, as in "train/loss"."""
    lines = []
    for name, (steps, values) in comparison.records.scalars.items():
        parts = "".join(c if c.isalpha() else " " for c in name.lower()).split()
        if len(steps) and any(part.startswith(word) for part in parts):
            x, y = _drawable(np.asarray(steps), np.asarray(values, dtype=np.float64), _BUCKETS)
            lines.append(ScalarLine(name, x, y))
    return lines


def common_stages(comparison: Comparison) -> tuple[Stage, ...]:
    """The stages that most groups go through, settings of the first such group."""
    alike: dict[tuple[tuple[int, int], ...], list[tuple[Stage, ...]]] = {}
    for group in comparison.groups:
        if stages := comparison.stages(group):
            alike.setdefault(tuple((s.start, s.stop) for s in stages), []).append(stages)
    return max(alike.values(), key=len)[0] if alike else ()


def _drawable(
    steps: NDArray[np.integer], values: Numbers, buckets: int, breaks: Iterable[int] = ()
) -> tuple[Numbers, NDArray[np.floating]]:
    """The points that a screen can tell apart, as 4-byte numbers wherever these hold them."""
    kept = points_to_keep(steps, values, buckets, breaks)
    x, y = steps[kept], values[kept]
    small = len(x) == 0 or x[-1] < 2**31
    with np.errstate(over="ignore", under="ignore"):
        return x.astype(np.int32 if small else np.float64), y.astype(np.float32)
