"""From certified cells to the groups users see: ranges merged, entries counted, names given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from spherical_motion.vocabulary import InvariantGroup, Slice
from spherical_motion.vocabulary.groups import Cell

__all__ = ["GRANULARITIES", "Granularity", "groups_of", "merged"]

Granularity: TypeAlias = Literal["layer", "filter"]
GRANULARITIES = ("layer", "filter")

Shape: TypeAlias = Callable[[str], Sequence[int]]
"""Parameter name → its shape, at least one axis."""


def groups_of(
    cells: Sequence[Cell], defects: Mapping[Cell, float], shape: Shape, granularity: Granularity
) -> tuple[InvariantGroup, ...]:
    """One group a parameter ("layer") or one a cell ("filter"), in the order of the cells.

    Args:
        cells: certified and disjoint.
        defects: |⟨w, g⟩| / (‖w‖‖g‖) of each cell at the real weights. A layer's is the root mean
            square over its cells: one probe reads a single cell's with a wide spread.
        shape: shape of each parameter.
        granularity: "layer" or "filter".
    """
    if granularity == "filter":
        families = [[cell] for cell in cells]
    else:
        by_parameters: dict[tuple[str, ...], list[Cell]] = {}
        for cell in cells:
            by_parameters.setdefault(tuple(part.parameter for part in cell), []).append(cell)
        families = list(by_parameters.values())
    return tuple(_group(family, defects, shape, granularity) for family in families)


def merged(slices: Sequence[Slice], shape: Shape) -> tuple[Slice, ...]:
    """The same entries in as few ranges as possible; a whole tensor as one range of axis 0.

    >>> parts = [Slice("w", 1, 0, 1), Slice("w", 1, 1, 3), Slice("w", 1, 5, 6)]
    >>> [str(s) for s in merged(parts, lambda name: (4, 6))]
    ['w[:, 0:3]', 'w[:, 5:6]']
    """
    ranges: list[Slice] = []
    for part in sorted(slices):
        last = ranges[-1] if ranges else None
        if last and (last.parameter, last.axis, last.stop) == (
            part.parameter,
            part.axis,
            part.start,
        ):
            ranges[-1] = Slice(part.parameter, part.axis, last.start, part.stop)
        else:
            ranges.append(part)
    return tuple(
        Slice(r.parameter, 0, 0, shape(r.parameter)[0])
        if r.length == shape(r.parameter)[r.axis]
        else r
        for r in ranges
    )


def _group(
    cells: Sequence[Cell],
    defects: Mapping[Cell, float],
    shape: Shape,
    granularity: Granularity,
) -> InvariantGroup:
    slices = merged([part for cell in cells for part in cell], shape)
    name = slices[0].parameter.removesuffix(".weight")
    if granularity == "filter":
        name += _index(cells[0][0], shape)
    return InvariantGroup(
        name=name,
        kind="scale",
        slices=slices,
        cells=tuple(cells),
        numel=sum(_numel(part, shape) for part in slices),
        defect=float(np.sqrt(np.mean([defects[cell] ** 2 for cell in cells]))),
    )


def _numel(part: Slice, shape: Shape) -> int:
    whole = shape(part.parameter)
    return math.prod(whole) // whole[part.axis] * part.length


def _index(part: Slice, shape: Shape) -> str:
    """How numpy would index the slice; nothing for a whole tensor."""
    if part.length == shape(part.parameter)[part.axis]:
        return ""
    inner = str(part.start) if part.length == 1 else f"{part.start}:{part.stop}"
    return f"[{':, ' * part.axis}{inner}]"
