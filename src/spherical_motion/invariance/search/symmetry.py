"""A symmetry: slices that are multiplied together, each by its power of one factor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from typing import Literal, TypeAlias, TypeVar

from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import Cell

T = TypeVar("T")

Pattern: TypeAlias = tuple[tuple[str, int], ...]
"""The parameters that a symmetry rescales, each with its power."""


@dataclasses.dataclass(frozen=True, slots=True)
class Symmetry:
    """A rescaling of slices, `parts[i]` by kᵖ with p = `powers[i]`, for any k > 0.

    It leaves the outputs alone exactly if Σ p_i ⟨w_i, g_i⟩ = 0 at almost every point.

    >>> gain, weight = Slice("norm.weight", 0, 3, 4), Slice("fc.weight", 1, 3, 4)
    >>> Symmetry((gain, weight), (1, -1)).kind
    'rescale'
    """

    parts: Cell
    powers: tuple[int, ...]

    @classmethod
    def scale(cls, parts: Iterable[Slice]) -> Symmetry:
        """All parts by the same factor."""
        cell = tuple(parts)
        return cls(cell, (1,) * len(cell))

    @property
    def kind(self) -> Literal["scale", "rescale"]:
        """Whether all parts are multiplied alike, as the theory of spheres asks."""
        return "scale" if len(set(self.powers)) == 1 else "rescale"

    @property
    def pattern(self) -> Pattern:
        """The parameters and powers, which the cells of a layer share."""
        return tuple(
            (part.parameter, power) for part, power in zip(self.parts, self.powers, strict=True)
        )


def rows_in(slices: Iterable[Slice]) -> dict[str, dict[int, set[int]]]:
    """Parameter → axis → the rows that lie in a slice."""
    rows: dict[str, dict[int, set[int]]] = {}
    for part in slices:
        axes = rows.setdefault(part.parameter, {})
        axes.setdefault(part.axis, set()).update(range(part.start, part.stop))
    return rows


def by_pattern(cells: Iterable[Symmetry]) -> list[list[Symmetry]]:
    """Groups of cells with one pattern, in the order of their first cells."""
    return grouped(cells, lambda cell: cell.pattern)


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items with equal keys together, in the order of their first members."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
