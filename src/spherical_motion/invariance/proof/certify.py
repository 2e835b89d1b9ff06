"""Proof by finite rescaling: candidates are multiplied, and the outputs must not move.

If Σ⟨w, g⟩ vanishes, the function is flat along a direction *at this point*. Under clipping (ReLU6)
thousands of slices are flat at a point and not invariant; only a finite step shows that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spherical_motion.invariance.proof.powers import held_under_powers_of_two
from spherical_motion.invariance.proof.rescale import Base, rescaled
from spherical_motion.invariance.proof.sift import sifted, without_patterns
from spherical_motion.invariance.proof.steadiness import Steadiness
from spherical_motion.invariance.running import Prober, Weights
from spherical_motion.invariance.search import Symmetry, totals_over, without_noise

LARGEST_FACTOR = 4.0
ATTEMPTS = 2
"""Backward passes spent on a certificate; halving finds the false cells that are left."""


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """Which candidates held, and how reliably.

    Attributes:
        cells: the survivors, in the order given.
        dropped: the others.
        bit_identical: powers of two left every bit of the outputs as it was.
        steady: rounding errors do not change the outputs noticeably, and two runs agree.
            Otherwise outputs prove nothing, and the survivors rest on their gradients at the
            rescaled point.
    """

    cells: tuple[Symmetry, ...] = ()
    dropped: tuple[Symmetry, ...] = ()
    bit_identical: bool = False
    steady: bool = True

    def warnings(self) -> list[str]:
        """Warnings that weaken it."""
        if self.steady:
            return []
        return [
            "The outputs differ between two runs with the same random seeds, or after a change of "
            "the weights in their last digits. So they prove nothing about a rescaling; the "
            "groups rest on their gradients alone."
        ]


def certified(
    prober: Prober,
    cells: Sequence[Symmetry],
    base: Base,
    reference: tuple[Tensor, ...] | None = None,
    shifts: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Certificate:
    """Rescale all candidates at once, drop those that prove false, repeat on the others.

    A pass multiplies each cell by a factor of its own, e^U(-ln 4, ln 4), and fails if the output
    moves. Its backward identifies the false cells: they have Σt ≠ 0 now. If all candidates are
    true, one pass is enough, whatever their number.

    Args:
        prober: runs the passes.
        cells: candidates, disjoint.
        base: the point to start from.
        reference: outputs at `base`, if known.
        shifts: rows without effect on the outputs, see `held_under_powers_of_two`.
    """
    precision = prober.precision
    if reference is None:
        reference = _outputs(prober, base, base.weights(prober))
    steadiness = Steadiness(prober, base, reference)
    survivors = list(cells)
    for attempt in range(ATTEMPTS):
        result = prober.backward(
            _randomly_scaled(prober, base, survivors, seed=attempt),
            seed=base.seed,
            norm_eps=precision.norm_eps,
        )
        moved = steadiness.moved(result.outputs)
        rows = without_noise(result.rows, precision.dead)
        false = ~totals_over(rows, survivors).vanish(precision.zero)
        survivors = without_patterns(survivors, false)
        if not survivors or not (moved or false.any()):
            break
    else:
        survivors = sifted(
            survivors,
            lambda some: steadiness.moved(
                _outputs(prober, base, _randomly_scaled(prober, base, some, seed=ATTEMPTS))
            ),
        )

    identical = False
    if survivors:
        survivors, identical = held_under_powers_of_two(
            prober, survivors, base, steadiness, shifts or {}
        )
    kept = set(survivors)
    dropped = tuple(cell for cell in cells if cell not in kept)
    steady = not survivors or identical or steadiness.steady
    return Certificate(tuple(survivors), dropped, identical, steady)


def _randomly_scaled(prober: Prober, base: Base, cells: Sequence[Symmetry], seed: int) -> Weights:
    limit = math.log(LARGEST_FACTOR)
    exponents = np.random.default_rng(seed).uniform(-limit, limit, len(cells))
    return rescaled(base.weights(prober), cells, np.exp(exponents).tolist())


def _outputs(prober: Prober, base: Base, weights: Weights) -> tuple[Tensor, ...]:
    return prober.forward(weights, seed=base.seed, norm_eps=prober.precision.norm_eps)
