"""From certified cells to the groups users see: merges ranges, counts entries, gives names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from spherical_motion.invariance.proof.defect import Defects
from spherical_motion.invariance.search import Symmetry, by_pattern, group_name, unique_names
from spherical_motion.vocabulary import InvariantGroup, Slice

Granularity: TypeAlias = Literal["layer", "filter"]
GRANULARITIES = ("layer", "filter")

Shape: TypeAlias = Callable[[str], Sequence[int]]
"""Parameter name → its shape, at least one axis."""


def groups_of(
    cells: Sequence[Symmetry], defects: Defects, shape: Shape, granularity: Granularity
) -> tuple[InvariantGroup, ...]:
    """One group a pattern ("layer") or one a cell ("filter"), in the order of the cells.

    Args:
        cells: certified, of one kind.
        defects: of the same cells at the real weights.
        shape: shape of each parameter.
        granularity: "layer" or "filter".
    """
    cells_of = by_pattern(cells) if granularity == "layer" else [[cell] for cell in cells]
    names = unique_names(group_name(alike, shape, granularity) for alike in cells_of)
    return tuple(
        _group(name, alike, defects, shape) for name, alike in zip(names, cells_of, strict=True)
    )


def merged(slices: Sequence[Slice], shape: Shape) -> tuple[Slice, ...]:
    """The same entries in as few ranges as possible; a whole tensor as one range of axis 0.

    >>> parts = [Slice("w", 1, 0, 1), Slice("w", 1, 1, 3), Slice("w", 1, 5, 6)]
    >>> [str(s) for s in merged(parts, lambda name: (4, 6))]
    ['w[:, 0:3]', 'w[:, 5:6]']
    """
    return tuple(
        Slice(r.parameter, 0, 0, shape(r.parameter)[0])
        if r.length == shape(r.parameter)[r.axis]
        else r
        for r in _ranges(slices)
    )


def covered_entries(groups: Iterable[InvariantGroup], shape: Shape) -> int:
    """How many entries lie in a group; an entry in several counts once."""
    rows: dict[str, dict[int, set[int]]] = {}
    for group in groups:
        for part in group.slices:
            axes = rows.setdefault(part.parameter, {})
            axes.setdefault(part.axis, set()).update(range(part.start, part.stop))
    return sum(
        _union({axis: len(index) for axis, index in axes.items()}, shape(parameter))
        for parameter, axes in rows.items()
    )


def _group(name: str, cells: Sequence[Symmetry], defects: Defects, shape: Shape) -> InvariantGroup:
    slices, powers = _placed(cells, shape)
    counts: dict[str, dict[int, int]] = {}
    for part in slices:
        axes = counts.setdefault(part.parameter, {})
        axes[part.axis] = axes.get(part.axis, 0) + part.length
    defect, error = defects.together(cells)
    return InvariantGroup(
        name=name,
        kind=cells[0].kind,
        slices=slices,
        cells=tuple(cell.parts for cell in cells),
        numel=sum(_union(axes, shape(parameter)) for parameter, axes in counts.items()),
        defect=defect,
        defect_error=error,
        powers=powers,
    )


def _placed(cells: Sequence[Symmetry], shape: Shape) -> tuple[tuple[Slice, ...], tuple[int, ...]]:
    """The slices of all cells, in the order of a cell's parts, and their powers if they differ."""
    by_power: dict[tuple[str, int], list[Slice]] = {}
    for cell in cells:
        for part, power in zip(cell.parts, cell.powers, strict=True):
            by_power.setdefault((part.parameter, power), []).append(part)
    if cells[0].kind == "scale":
        return tuple(s for parts in by_power.values() for s in merged(parts, shape)), ()
    placed = [(s, power) for (_, power), parts in by_power.items() for s in _ranges(parts)]
    return tuple(s for s, _ in placed), tuple(power for _, power in placed)


def _ranges(slices: Iterable[Slice]) -> list[Slice]:
    """Slices with adjacent ones merged."""
    ranges: list[Slice] = []
    for part in sorted(set(slices)):
        last = ranges[-1] if ranges else None
        if last and (last.parameter, last.axis, last.stop) == (
            part.parameter,
            part.axis,
            part.start,
        ):
            ranges[-1] = Slice(part.parameter, part.axis, last.start, part.stop)
        else:
            ranges.append(part)
    return ranges


def _union(rows: dict[int, int], shape: Sequence[int]) -> int:
    """How many entries of a tensor lie in the given number of rows of at least one axis."""
    outside = math.prod(n - rows.get(axis, 0) for axis, n in enumerate(shape) if axis in rows)
    inside = math.prod(n for axis, n in enumerate(shape) if axis in rows)
    return (inside - outside) * math.prod(n for axis, n in enumerate(shape) if axis not in rows)
