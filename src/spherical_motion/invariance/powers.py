"""Rescaling by powers of two, where floating-point arithmetic itself is scale-invariant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.invariance.compare import relative_change, same_bits
from spherical_motion.invariance.joint import module_of
from spherical_motion.invariance.probe import Prober
from spherical_motion.invariance.rescale import Base, RowFactors, rescaled, row_factors
from spherical_motion.invariance.sift import sifted
from spherical_motion.invariance.symmetry import Symmetry

__all__ = ["held_under_powers_of_two"]

EXPONENTS = (2, 3, 4, 5, 6, 7, 8)


def held_under_powers_of_two(
    prober: Prober, cells: Sequence[Symmetry], base: Base, shifts: Mapping[str, NDArray[np.bool_]]
) -> tuple[list[Symmetry], bool]:
    """(the cells that leave the outputs alone, whether they do so to the last bit).

    All cells at once, those of a family by one power, up in one run and down in another. No
    rounding differs between 2ᵏw and w, so a true group changes no bit of the outputs; and with 2⁸
    this reaches clips that a factor of 4 does not. Costs three forward passes if all holds.

    Args:
        prober: runs the passes.
        cells: candidates.
        base: where to start from.
        shifts: for each parameter its rows, along axis 0, without effect on the outputs. They go
            along with the rows of the same module: a bias in front of a batch norm is added to
            what is scaled, and takes part in its rounding.
    """
    eps, tolerance = prober.precision.exact_eps, prober.precision.change
    families = sorted({cell.family for cell in cells})
    draws = np.random.default_rng(base.seed)
    exponents = draws.choice(EXPONENTS, len(families)) * draws.choice((-1, 1), len(families))
    powers = dict(zip(families, 2.0**exponents, strict=True))

    shifts = {name: rows for name, rows in shifts.items() if rows.any()}

    def run(some: Sequence[Symmetry], direction: int) -> tuple[Tensor, ...]:
        factors = row_factors(some, [powers[cell.family] ** direction for cell in some])
        weights = rescaled(base.weights(prober), factors | _carried(factors, shifts, prober))
        return prober.forward(weights, seed=base.seed, norm_eps=eps)

    reference = prober.forward(base.weights(prober), seed=base.seed, norm_eps=eps)
    runs = [run(cells, direction) for direction in (1, -1)]
    if all(same_bits(outputs, reference) for outputs in runs):
        return list(cells), True
    if all(relative_change(outputs, reference) <= tolerance for outputs in runs):
        return list(cells), False

    def moves(some: Sequence[Symmetry]) -> bool:
        return any(relative_change(run(some, d), reference) > tolerance for d in (1, -1))

    return sifted(cells, moves), False


def _carried(
    factors: RowFactors, shifts: Mapping[str, NDArray[np.bool_]], prober: Prober
) -> RowFactors:
    """Factors for rows without effect: those of the rows beside them in their module."""
    carried: RowFactors = {}
    for parameter, silent in shifts.items():
        own = _padded(factors.get((parameter, 0), np.ones(0)), silent.size)
        for (other, axis), rows in factors.items():
            beside = other != parameter and module_of(other) == module_of(parameter)
            if beside and prober.shape(other)[axis] == silent.size:
                carried[parameter, 0] = np.where(silent, _padded(rows, silent.size), own)
                break
    return carried


def _padded(rows: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.concatenate([rows, np.ones(size - rows.size)])
