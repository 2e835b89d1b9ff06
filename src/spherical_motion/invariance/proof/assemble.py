"""From certified cells to groups: merges ranges, counts entries, gives names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from spherical_motion.invariance.proof.defect import Defects
from spherical_motion.invariance.search import (
    Symmetry,
    by_pattern,
    grouped,
    rows_in,
    starred,
)
from spherical_motion.vocabulary import InvariantGroup, Slice
from spherical_motion.vocabulary.groups import module_of

Granularity: TypeAlias = Literal["layer", "filter"]
GRANULARITIES = ("layer", "filter")

Shape: TypeAlias = Callable[[str], Sequence[int]]
"""Parameter name → its shape, at least one axis."""

MOST_SPELLED = 3
"""Groups of more members are named by roles, with stars for indices."""


def groups_of(
    cells: Sequence[Symmetry], defects: Defects, shape: Shape, granularity: Granularity
) -> tuple[InvariantGroup, ...]:
    """One group a pattern ("layer") or one a cell ("filter"), in the order of the cells.

    The cells are certified, of one kind; `defects` holds theirs at the real weights.
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


def covered_entries(slices: Iterable[Slice], shape: Shape) -> int:
    """How many entries lie in at least one slice."""
    return sum(
        math.prod(sizes := shape(parameter))
        - math.prod(size - len(axes.get(axis, ())) for axis, size in enumerate(sizes))
        for parameter, axes in rows_in(slices).items()
    )


def _group(name: str, cells: Sequence[Symmetry], defects: Defects, shape: Shape) -> InvariantGroup:
    slices, powers = _placed(cells, shape)
    defect, error = defects.together(cells)
    return InvariantGroup(
        name=name,
        kind=cells[0].kind,
        slices=slices,
        cells=tuple(cell.parts for cell in cells),
        numel=covered_entries(slices, shape),
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
    """The slices in order, adjacent ones merged."""
    ranges: list[Slice] = []
    for part in sorted(set(slices)):
        start = part.start
        if ranges and ranges[-1].stop == start and _line(ranges[-1]) == _line(part):
            start = ranges.pop().start
        ranges.append(Slice(part.parameter, part.axis, start, part.stop))
    return ranges


def _line(part: Slice) -> tuple[str, int]:
    return part.parameter, part.axis


def group_name(cells: Sequence[Symmetry], shape: Shape, granularity: str) -> str:
    """Members joined by " + ", in a rescaling those of negative power after " / ".

    >>> parts = (Slice("norm.weight", 0, 0, 1), Slice("norm.bias", 0, 0, 1))
    >>> group_name([Symmetry.scale(parts)], lambda name: (4,), "layer")
    'norm'
    >>> parts = (*parts, Slice("fc.weight", 1, 0, 1))
    >>> group_name([Symmetry(parts, (1, 1, -1))], lambda name: (4, 4), "filter")
    'norm[0] / fc[:, 0]'
    """
    first = cells[0]
    indexed = granularity == "filter" or first.kind == "rescale"
    sides: list[str] = []
    for positive in (True, False):
        members = [k for k, power in enumerate(first.powers) if (power > 0) is positive]
        if members:
            name = members_name([first.parts[k].parameter for k in members])
            lead = [cell.parts[members[0]] for cell in cells]
            sides.append(name + (_index(lead, shape) if indexed else ""))
    return " / ".join(sides)


def members_name(parameters: Sequence[str]) -> str:
    """Parameters by their modules, each once.

    A module's name replaces its parameters if its weight is among them, or if they are several;
    other parameters keep their names.

    >>> members_name(["embed.weight", "0.fc.weight", "0.fc.bias", "1.fc.weight", "1.fc.bias"])
    'embed + 0.fc + 1.fc'
    >>> members_name(["embed.weight", *(f"blocks.{i}.out.weight" for i in range(12))])
    'embed + blocks.*.out'
    """
    names = []
    for members in grouped(dict.fromkeys(parameters), module_of):
        module = module_of(members[0])
        whole = module and (len(members) > 1 or members[0] == f"{module}.weight")
        names += [module] if whole else members
    if len(names) > MOST_SPELLED:
        names = list(dict.fromkeys(map(starred, names)))
    return " + ".join(names)


def unique_names(names: Iterable[str]) -> list[str]:
    """The same, with a number behind repeated names.

    >>> unique_names(["fc", "fc", "head"])
    ['fc', 'fc (2)', 'head']
    """
    seen = Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _index(parts: Sequence[Slice], shape: Shape) -> str:
    """The slices as numpy indexes them; empty for a whole tensor or scattered slices."""
    start, stop = min(p.start for p in parts), max(p.stop for p in parts)
    whole = stop - start == shape(parts[0].parameter)[parts[0].axis]
    if whole or sum(p.length for p in parts) != stop - start:
        return ""
    inner = str(start) if stop - start == 1 else f"{start}:{stop}"
    return f"[{':, ' * parts[0].axis}{inner}]"
