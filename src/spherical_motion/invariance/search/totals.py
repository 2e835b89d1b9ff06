"""Row sums added up over symmetries: does Σ p⟨w, g⟩ vanish, and how nearly?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.running import Evidence
from spherical_motion.invariance.search.slices import range_sums
from spherical_motion.invariance.search.symmetry import Symmetry


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
