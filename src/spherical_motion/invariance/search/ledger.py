"""The symmetries found so far, and which rows later stages of the search may still use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.running import Evidence
from spherical_motion.invariance.search.slices import LiveRows
from spherical_motion.invariance.search.symmetry import Pattern, Symmetry
from spherical_motion.vocabulary import Slice


class Ledger:
    """The symmetries found, and which rows may still take part in others.

    Relations form a linear space, and the search looks for a basis of it. A relation Σ p·t = 0
    expresses one of its members, the pivot, by the others. So every further relation can be
    written without the pivot. The search eliminates it, as in Gaussian elimination: what it finds
    later is new, minimal, and one representative of all that differ by known symmetries.

    Attributes:
        zero: |Σ p·t| counts as zero up to this times its size.
        found: the symmetries, in the order found.
        open: live rows whose own ⟨w, g⟩ is not zero and that are not eliminated.
        eliminated: rows that are eliminated, by themselves or in a block.
    """

    def __init__(self, evidence: Evidence, live: LiveRows, zero: float) -> None:
        self.evidence = evidence
        self.live = live
        self.zero = zero
        self.found: list[Symmetry] = []
        self._eliminated_tensors: set[str] = set()
        self._taken: dict[Pattern, dict[tuple[str, int], NDArray[np.bool_]]] = {}
        self.eliminated = _nothing(live)
        self._scaled = _nothing(live)
        self.open = {
            name: [
                alive & ~(np.abs(rows.t) <= zero * rows.size).all(axis=0)
                for rows, alive in zip(evidence[name], axes, strict=True)
            ]
            for name, axes in live.items()
        }

    def accept(self, symmetries: Iterable[Symmetry], pivot: int = 0) -> None:
        """Record symmetries, and eliminate part number `pivot` of each.

        A symmetry that overlaps another of its pattern is not minimal and is skipped: a block of
        a dead row and another repeats the symmetry of the other row.
        """
        for symmetry in symmetries:
            taken = self._taken.setdefault(symmetry.pattern, {})
            for part in symmetry.parts:
                none = np.zeros_like(self.live[part.parameter][part.axis])
                taken.setdefault((part.parameter, part.axis), none)
            if any(taken[p.parameter, p.axis][p.start : p.stop].any() for p in symmetry.parts):
                continue
            for part in symmetry.parts:
                taken[part.parameter, part.axis][part.start : part.stop] = True
                if symmetry.kind == "scale":
                    self._scaled[part.parameter][part.axis][part.start : part.stop] = True
            self.found.append(symmetry)
            self._eliminate(symmetry.parts[pivot])

    def implied(self, powers: Mapping[str, int]) -> bool:
        """Whether a relation between whole parameters is a combination of those found."""
        known = list(dict.fromkeys(symmetry.pattern for symmetry in self.found))
        names = {name: i for i, name in enumerate(self.live)}
        vectors = np.zeros((len(known) + 1, len(names)))
        for row, pattern in enumerate([*known, tuple(powers.items())]):
            for name, power in pattern:
                vectors[row, names[name]] = power
        return bool(np.linalg.matrix_rank(vectors) == np.linalg.matrix_rank(vectors[:-1]))

    def unscaled_rows(self, parameter: str, axis: int) -> NDArray[np.bool_]:
        """Live rows in no symmetry of kind "scale"."""
        live, scaled = self.live[parameter], self._scaled[parameter]
        if any(not (alive & ~rows).any() for alive, rows in zip(live, scaled, strict=True)):
            return np.zeros_like(live[axis])
        return live[axis] & ~scaled[axis]

    def open_tensors(self) -> list[str]:
        """Parameters that have a gradient and a row that is not eliminated."""
        return [
            name
            for name, axes in self.live.items()
            if axes[0].any() and name not in self._eliminated_tensors
        ]

    def _eliminate(self, part: Slice) -> None:
        covered = self.eliminated[part.parameter][part.axis]
        covered[part.start : part.stop] = True
        if part.length == 1:  # rows inside a block have relations of their own
            self.open[part.parameter][part.axis][part.start] = False
        if not (self.live[part.parameter][part.axis] & ~covered).any():
            self._eliminated_tensors.add(part.parameter)


def _nothing(live: LiveRows) -> dict[str, list[NDArray[np.bool_]]]:
    return {name: [np.zeros_like(alive) for alive in axes] for name, axes in live.items()}
