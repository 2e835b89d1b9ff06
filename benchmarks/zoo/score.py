"""Found cells against true ones, with rescaling symmetries reckoned with.

A symmetry multiplies every entry of the weights by a power of one number; the powers form a vector,
and symmetries a linear space, because one may follow another. A found cell that is not in the list
of true ones is nevertheless true if its vector of ones lies in the space that true cells, their
listed equivalents and known rescalings span: it is then true by gauge. Anything else is false.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import Cell
from zoo.truth import Shapes, Truth

__all__ = ["Score", "scored"]

Shape = frozenset[Slice]
"""A cell in its normal form."""

Powers = dict[Slice, int]
"""A symmetry: slice → the power of the common factor it is multiplied by."""


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """Counts of cells, and of parameters.

    Attributes:
        true_cells: in the truth.
        found: found by the search.
        exact: found cells that are literally among the true ones.
        gauge: found cells that are true by a rescaling symmetry, or listed as equivalents.
        false: all other found cells, to be shown.
        missed: true cells that were not found.
        missed_by_gauge: those of them for which the found ones hold a representative.
        parameters: members of true cells.
        found_parameters: members of found cells.
        right_parameters: both.
        gauge_parameters: found, and members of cells that are true by gauge only.
    """

    true_cells: int
    found: int
    exact: int
    gauge: int
    false: tuple[Cell, ...]
    missed: tuple[Cell, ...]
    missed_by_gauge: int
    parameters: int
    found_parameters: int
    right_parameters: int
    gauge_parameters: int

    @property
    def precision(self) -> float:
        """Share of found cells that are true, exactly or by gauge; NaN if none was found."""
        return (self.exact + self.gauge) / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of true cells that were found as they are; NaN if there are none."""
        return self.exact / self.true_cells if self.true_cells else float("nan")

    @property
    def recall_by_gauge(self) -> float:
        """The same, counting those of which an equivalent was found."""
        if not self.true_cells:
            return float("nan")
        return (self.exact + self.missed_by_gauge) / self.true_cells


def scored(truth: Truth, found: Iterable[Cell]) -> Score:
    """Hold the found cells against the truth."""
    ignored = [*truth.silent, *truth.unseen]
    normal = {normal_form(cell, truth.shapes, ignored): cell for cell in found}
    normal.pop(frozenset(), None)  # a silent bias by itself
    true = {normal_form(cell, truth.shapes, ignored): cell for cell in truth.cells}
    listed = {normal_form(cell, truth.shapes, ignored) for cell in truth.equivalents}

    exact = normal.keys() & true.keys()
    doubtful = [shape for shape in normal if shape not in exact and shape not in listed]
    space = Space(truth, [*true, *listed], ignored)
    false = [shape for shape in doubtful if not space.holds(shape, [])]
    by_gauge = normal.keys() - exact - set(false)
    missing = [shape for shape in true if shape not in exact]
    rescalings = Space(truth, list(exact), ignored)
    recovered = [s for s in missing if rescalings.holds(s, by_gauge)] if by_gauge else []

    members = {part.parameter for shape in true for part in shape}
    found_members = {part.parameter for shape in normal for part in shape}
    gauge_members = {part.parameter for shape in by_gauge for part in shape}
    return Score(
        true_cells=len(true),
        found=len(normal),
        exact=len(exact),
        gauge=len(by_gauge),
        false=tuple(normal[shape] for shape in false),
        missed=tuple(true[shape] for shape in missing),
        missed_by_gauge=len(recovered),
        parameters=len(members),
        found_parameters=len(found_members),
        right_parameters=len(members & found_members),
        gauge_parameters=len((gauge_members & found_members) - members),
    )


def normal_form(cell: Cell, shapes: Shapes, ignored: Sequence[Slice] = ()) -> Shape:
    """Adjacent slices joined, a whole tensor along axis 0, ignored entries left out."""
    ranges: list[Slice] = []
    for part in sorted(without(cell, ignored)):
        last = ranges[-1] if ranges else None
        if (
            last is not None
            and (last.parameter, last.axis) == (part.parameter, part.axis)
            and part.start <= last.stop
        ):
            ranges[-1] = Slice(part.parameter, part.axis, last.start, max(last.stop, part.stop))
        else:
            ranges.append(part)
    return frozenset(
        Slice(r.parameter, 0, 0, shapes[r.parameter][0])
        if r.length == shapes[r.parameter][r.axis]
        else r
        for r in ranges
    )


def without(cell: Iterable[Slice], ignored: Sequence[Slice]) -> list[Slice]:
    """The slices minus the ignored ranges on the same axis."""
    rest = list(cell)
    for gone in ignored:
        kept = []
        for part in rest:
            if not part.overlaps(gone):
                kept.append(part)
                continue
            if part.start < gone.start:
                kept.append(dataclasses.replace(part, stop=gone.start))
            if gone.stop < part.stop:
                kept.append(dataclasses.replace(part, start=gone.stop))
        rest = kept
    return rest


class Space:
    """The span of true cells and rescalings.

    Slices that are cells by themselves are free: they can take any power, so they are struck from
    every vector. What remains is small, and is solved densely over ranges between breakpoints.
    """

    def __init__(self, truth: Truth, cells: Iterable[Shape], ignored: Sequence[Slice]) -> None:
        self.shapes = truth.shapes
        self.free: dict[tuple[str, int], np.ndarray] = {}
        self.generators: list[Powers] = []
        for shape in cells:
            part = next(iter(shape))
            if len(shape) == 1 and part.length == 1:
                length = self.shapes[part.parameter][part.axis]
                free = self.free.setdefault(
                    (part.parameter, part.axis), np.zeros(length, dtype=bool)
                )
                free[part.start] = True
            else:
                self.generators.append(dict.fromkeys(shape, 1))
        for rescaling in truth.rescalings:
            plus = normal_form(rescaling.plus, self.shapes, ignored)
            minus = normal_form(rescaling.minus, self.shapes, ignored)
            self.generators.append(dict.fromkeys(plus, 1) | dict.fromkeys(minus, -1))

    def holds(self, shape: Shape, more: Iterable[Shape]) -> bool:
        """Whether the cell's powers are a combination of the generators (and of `more`)."""
        target = self._struck(dict.fromkeys(shape, 1))
        if not target:
            return True
        generators = [*self.generators, *(dict.fromkeys(s, 1) for s in more)]
        near = connected(target, [g for g in map(self._struck, generators) if g])
        near += self._whole_either_way([target, *near])
        columns = atoms([target, *near], self.shapes)
        wanted = vector(target, columns)
        if not near:
            return False
        matrix = np.array([vector(g, columns) for g in near]).T
        solution = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        return bool(np.abs(matrix @ solution - wanted).max() < 1e-8)

    def _whole_either_way(self, vectors: list[Powers]) -> list[Powers]:
        """All rows of a parameter are all its columns, where vectors hold both."""
        axes: dict[str, set[int]] = {}
        for part in (part for powers in vectors for part in powers):
            axes.setdefault(part.parameter, set()).add(part.axis)
        return [
            {Slice(p, axis, 0, self.shapes[p][axis]): 1 - 2 * axis for axis in (0, 1)}
            for p, seen in axes.items()
            if len(seen) > 1
        ]

    def _struck(self, powers: Powers) -> Powers:
        return {part: power for part, power in powers.items() if not self._is_free(part)}

    def _is_free(self, part: Slice) -> bool:
        here = self.free.get((part.parameter, part.axis))
        if here is not None and here[part.start : part.stop].all():
            return True
        whole = part.length == self.shapes[part.parameter][part.axis]
        other = self.free.get((part.parameter, 1 - part.axis))
        return whole and other is not None and bool(other.all())


def connected(target: Powers, generators: list[Powers]) -> list[Powers]:
    """The generators that share parameters with the target, directly or through others."""
    reached = {part.parameter for part in target}
    rest, chosen = generators, []
    while True:
        near = [g for g in rest if any(part.parameter in reached for part in g)]
        if not near:
            return chosen
        chosen += near
        rest = [g for g in rest if not any(part.parameter in reached for part in g)]
        reached |= {part.parameter for g in near for part in g}


def atoms(vectors: list[Powers], shapes: Shapes) -> list[Slice]:
    """The finest ranges that occur; where a parameter is cut on two axes, the boxes between."""
    cuts: dict[tuple[str, int], set[int]] = {}
    for powers in vectors:
        for part in powers:
            cuts.setdefault((part.parameter, part.axis), {0}).update(
                (part.start, part.stop, shapes[part.parameter][part.axis])
            )
    return [
        Slice(name, axis, start, stop)
        for (name, axis), points in cuts.items()
        for start, stop in zip(sorted(points)[:-1], sorted(points)[1:], strict=True)
    ]


def vector(powers: Powers, columns: list[Slice]) -> np.ndarray:
    """Powers over atoms; the whole tensor on axis 0 and on axis 1 are not told apart here."""
    out = np.zeros(len(columns))
    for part, power in powers.items():
        for i, atom in enumerate(columns):
            if (
                (atom.parameter, atom.axis) == (part.parameter, part.axis)
                and part.start <= atom.start
                and atom.stop <= part.stop
            ):
                out[i] += power
    return out
