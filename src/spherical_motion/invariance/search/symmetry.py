"""Symmetries: slices multiplied together by powers of one factor; the row sums over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.running import Evidence
from spherical_motion.invariance.search.slices import range_sums
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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """Row sums added up over symmetries; arrays of shape (..., symmetries).

    Attributes:
        t: Σ p⟨w_i, g_i⟩ over the rows, p the power of each.
        ww: Σ p²‖w_i‖², the squared length of the direction that the rescaling moves along.
        gg: Σ ‖g_i‖².
        size: √Σ p²‖w_i‖²‖g_i‖², the magnitude of t if the rows were unrelated.
    """

    t: NDArray[np.float64]
    ww: NDArray[np.float64]
    gg: NDArray[np.float64]
    size: NDArray[np.float64]

    def vanish(self, zero: float) -> NDArray[np.bool_]:
        """Symmetries whose t is zero, up to `zero` times their size."""
        return np.abs(self.t) <= zero * self.size

    def defect(self) -> NDArray[np.float64]:
        """|t| / √(ww·gg) of each, in [0, 1]; NaN without a weight or a gradient."""
        scale = np.sqrt(self.ww * self.gg)
        return np.divide(np.abs(self.t), scale, out=np.full_like(scale, np.nan), where=scale > 0)


def totals_over(evidence: Evidence, symmetries: Sequence[Symmetry]) -> Totals:
    """Add the row sums over the parts of each symmetry."""
    members: dict[tuple[str, int], list[tuple[int, int, int, int]]] = {}
    for index, symmetry in enumerate(symmetries):
        for part, power in zip(symmetry.parts, symmetry.powers, strict=True):
            members.setdefault((part.parameter, part.axis), []).append(
                (index, part.start, part.stop, power)
            )
    lead = next(iter(evidence.values()))[0].t.shape[:-1]
    sums = np.zeros((4, len(symmetries), *lead))
    for (parameter, axis), parts in members.items():
        rows = evidence[parameter][axis]
        index, start, stop, power = np.array(parts).T
        square = power**2
        weighted = (
            (rows.t, power),
            (rows.ww, square),
            (rows.gg, np.ones_like(power)),
            (rows.ww * rows.gg, square),
        )
        for total, (values, factor) in zip(sums, weighted, strict=True):
            shares = range_sums(values, start, stop) * factor
            np.add.at(total, index, np.moveaxis(shares, -1, 0))
    t, ww, gg, square = np.moveaxis(sums, 1, -1)
    return Totals(t, ww, gg, np.sqrt(square))
