"""Rescaling by powers of two, where floating-point arithmetic itself is scale-invariant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.invariance.proof.rescale import Base, rescaled
from spherical_motion.invariance.proof.sift import sifted
from spherical_motion.invariance.proof.steadiness import Steadiness
from spherical_motion.invariance.running import Prober, Weights
from spherical_motion.invariance.search import Pattern, Symmetry

ATTEMPTS = 3
"""Rounds of sifting, each with powers of its own, before all candidates are dropped."""

Outputs: TypeAlias = tuple[Tensor, ...]

EPS = 1e-30
"""In place of the norm layers' ε: below half an ulp of any variance."""

EXPONENTS = (6, 7, 8, 9)
"""Not smaller: a clip at 6 is out of reach of activations around 1 times 4. Not negative: two
false patterns that act on one weight would hide each other."""


def held_under_powers_of_two(
    prober: Prober,
    cells: Sequence[Symmetry],
    base: Base,
    steadiness: Steadiness,
    shifts: Mapping[str, NDArray[np.bool_]],
) -> tuple[list[Symmetry], bool]:
    """(the cells that leave the outputs alone, whether they do so to the last bit).

    All cells at once, those of a pattern by one power, up in one run and down in another. No
    rounding differs between 2ᵏw and w, so a true group changes no bit of the outputs; and with 2⁶
    and more this reaches clips that a factor of 4 does not. Costs three forwards if all holds.

    `shifts` are the rows of parameters, along axis 0, that seem to be mere shifts in front of a
    norm. They are set to zero in all runs if that changes nothing. A bias in front of a batch norm
    affects only rounding: added to something 2⁹ times smaller it would round 9 of its bits away.
    """
    patterns = sorted({cell.pattern for cell in cells})
    draws = np.random.default_rng(base.seed)

    def drawn() -> dict[Pattern, float]:
        return dict(zip(patterns, 2.0 ** draws.choice(EXPONENTS, len(patterns)), strict=True))

    def run(some: Sequence[Symmetry], powers: Mapping[Pattern, float], up: int) -> Outputs:
        factors = [powers[cell.pattern] ** up for cell in some]
        weights = rescaled(_without(base.weights(prober), shifts), some, factors)
        return prober.forward(weights, seed=base.seed, norm_eps=EPS)

    reference = run([], {}, 1)
    if steadiness.moved(reference):
        shifts = {}  # they do have an effect
        reference = run([], {}, 1)
    powers = drawn()
    runs = [run(cells, powers, up) for up in (1, -1)]
    if all(len(y) == len(reference) and all(map(torch.equal, y, reference)) for y in runs):
        return list(cells), True
    if not any(steadiness.moved(outputs, reference) for outputs in runs):
        return list(cells), False

    def moves(some: Sequence[Symmetry]) -> bool:
        runs = (run(some, powers, up) for up in (1, -1))
        return any(steadiness.moved(outputs, reference) for outputs in runs)

    kept = list(cells)
    for _ in range(ATTEMPTS):
        kept = sifted(kept, moves)
        powers = drawn()
        if not moves(kept):
            return kept, False
    return [], False


@torch.no_grad()
def _without(weights: Weights, shifts: Mapping[str, NDArray[np.bool_]]) -> Weights:
    """Set rows to zero, in place; returns the same leaves."""
    for parameter, rows in shifts.items():
        leaf = weights[parameter]
        torch.atleast_1d(leaf)[torch.from_numpy(rows).to(leaf.device)] = 0.0
    return weights
