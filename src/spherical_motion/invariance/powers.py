"""Rescaling by powers of two, where floating-point arithmetic itself is scale-invariant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.invariance.compare import relative_change, same_bits
from spherical_motion.invariance.probe import Prober
from spherical_motion.invariance.rescale import Base, scale_cells, scale_rows
from spherical_motion.invariance.sift import sifted
from spherical_motion.vocabulary.groups import Cell

__all__ = ["held_under_powers_of_two"]

EXPONENTS = (2, 3, 4, 5, 6, 7, 8)


def held_under_powers_of_two(
    prober: Prober, cells: Sequence[Cell], base: Base, shifts: Mapping[str, NDArray[np.bool_]]
) -> tuple[list[Cell], bool]:
    """(the cells that leave the outputs alone, whether they do so to the last bit).

    All cells at once, those of a module by one power, up in one run and down in another. No
    rounding differs between 2ᵏw and w, so a true group changes no bit of the outputs; and with 2⁸
    this reaches clips that a factor of 4 does not. Costs three forward passes if all holds.

    Args:
        prober: runs the passes.
        cells: candidates, disjoint.
        base: where to start from.
        shifts: for each parameter its rows, along axis 0, without effect on the outputs. Those in
            the module of a cell are scaled along: a bias in front of a batch norm is added to
            what is scaled, and takes part in its rounding.
    """
    eps, tolerance = prober.precision.exact_eps, prober.precision.change
    modules = sorted({_module(part.parameter) for cell in cells for part in cell})
    draws = np.random.default_rng(base.seed)
    exponents = draws.choice(EXPONENTS, len(modules)) * draws.choice((-1, 1), len(modules))
    powers = dict(zip(modules, 2.0**exponents, strict=True))

    def run(some: Sequence[Cell], direction: int) -> tuple[Tensor, ...]:
        factors = [powers[_module(cell[0].parameter)] ** direction for cell in some]
        weights = scale_cells(base.weights(prober), some, factors)
        own = {part.parameter for cell in some for part in cell}
        beside = {_module(parameter) for parameter in own}
        for parameter, rows in shifts.items():
            if parameter not in own and (module := _module(parameter)) in beside:
                scale_rows(weights[parameter], 0, np.where(rows, powers[module] ** direction, 1.0))
        return prober.forward(weights, seed=base.seed, norm_eps=eps)

    reference = prober.forward(base.weights(prober), seed=base.seed, norm_eps=eps)
    runs = [run(cells, direction) for direction in (1, -1)]
    if all(same_bits(outputs, reference) for outputs in runs):
        return list(cells), True
    if all(relative_change(outputs, reference) <= tolerance for outputs in runs):
        return list(cells), False

    def moves(some: Sequence[Cell]) -> bool:
        return any(relative_change(run(some, d), reference) > tolerance for d in (1, -1))

    return sifted(cells, moves), False


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]
