"""The defects of certified cells in the user's network: at its real weights, with its real ε."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.running import Evidence, Observer, Prober
from spherical_motion.invariance.search import Symmetry, totals_over

SEED = 0

COTANGENTS = 3
"""Random gradients that a defect is measured with, all on one forward pass. One gradient gives
between 0.15 and 1.65 times the root mean square of many."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Defects:
    """|Σ p⟨w, g⟩| / (‖p w‖‖g‖) of cells at the real weights.

    Attributes:
        by_cell: for each cell, one value a random gradient; shape (gradients,).
        rows: the row sums they come from, shape (gradients, rows).
        warnings: where it had to be measured elsewhere.
    """

    by_cell: Mapping[Symmetry, NDArray[np.float64]]
    rows: Evidence
    warnings: tuple[str, ...] = ()

    def together(self, cells: Sequence[Symmetry]) -> tuple[float, float]:
        """Root mean square over cells and gradients, and its standard error.

        The error is the larger of two estimates: from the spread of all values as if they were
        independent, and from that between gradients, which the cells of a layer share. NaN for a
        single cell and a single gradient.
        """
        squares = np.stack([self.by_cell[cell] for cell in cells]) ** 2
        mean = float(squares.mean())
        if squares.size < 2:
            return math.sqrt(mean), math.nan
        if mean == 0.0:
            return 0.0, 0.0
        errors = [_standard_error(squares.ravel())]
        if squares.shape[1] > 1:
            errors.append(_standard_error(squares.mean(axis=0)))
        return math.sqrt(mean), max(errors) / (2.0 * math.sqrt(mean))


def measured_defects(
    prober: Prober, cells: Sequence[Symmetry], observer: Observer | None = None
) -> Defects:
    """The defects of cells, from one forward pass at the real weights and the real ε.

    The ε of a norm layer leaves about ε/σ² of its input's variance σ², so the defect is linear in
    ε and falls as 1/‖w‖².

    Behind a gain initialized to zero nothing has a gradient. Then one more pass, with noise on
    the tensors that are all but zero, stands in for the cells concerned.
    """
    real = prober.backward(
        prober.subject.real(), seed=SEED, norm_eps=None, cotangents=COTANGENTS, observer=observer
    )
    defects = totals_over(real.rows, cells).defect()
    warnings: list[str] = []
    if defects.shape[0] < COTANGENTS:
        warnings.append(
            "The model could not be differentiated twice after one forward pass, so the defects "
            "rest on one random gradient each, which gives 0.15 to 1.65 times their true size."
        )
    silent = np.flatnonzero(np.isnan(defects).any(axis=0)).tolist()
    if silent:
        revived = prober.backward(
            prober.subject.real(revive=True), seed=SEED, norm_eps=None, cotangents=COTANGENTS
        )
        defects[:, silent] = totals_over(revived.rows, [cells[i] for i in silent]).defect()
        names = list(dict.fromkeys(cells[i].parts[0].parameter for i in silent))
        warnings.append(
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {len(names)} parameter(s) "
            "with rows that have no gradient at the real weights; their defect was measured with "
            "noise on the tensors that are all but zero."
        )
    # Where there is still no gradient, ⟨w, g⟩ is zero because g is.
    values = np.nan_to_num(defects, nan=0.0).T
    return Defects(dict(zip(cells, values, strict=True)), real.rows, tuple(warnings))


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / math.sqrt(values.size)
