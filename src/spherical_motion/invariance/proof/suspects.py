"""Slices whose Σt is small and not zero, perhaps because the ε of a norm cannot be removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from spherical_motion.invariance.proof.rescale import Base
from spherical_motion.invariance.running import Evidence, Prober
from spherical_motion.invariance.search import Symmetry, grouped, totals_over

PUSH = 8.0
"""Suspects are enlarged by this factor; relative to them an ε shrinks to 1/8 or 1/64."""

FALL = 0.25
"""Their Σt must then fall below this share of what it was."""

INFLATION = PUSH**6
"""Beside slices enlarged by this, an ε of 1e-5 is below rounding: the usual certificate applies."""


def confirmed_suspects(
    prober: Prober, suspects: Sequence[Symmetry], seed: int, evidence: Evidence
) -> list[Symmetry]:
    """Suspects whose Σt shrinks as an ε's share does when they are enlarged; costs a pass.

    An ε that is a literal in a forward pass cannot be removed. Beside weights 8 times as large it
    has 1/64 of its effect (inside the root) or 1/8 (outside), while the Σt of a slice that is not
    invariant keeps its size. The pass starts from probe number `seed`.
    """
    if not suspects:
        return []
    weights = Base(seed, tuple(suspects), PUSH).weights(prober)
    pushed = prober.backward(weights, seed=seed, norm_eps=prober.precision.norm_eps)
    before = totals_over(evidence, suspects).defect()[seed]
    after = totals_over(pushed.rows, suspects).defect()
    return [
        suspects[index]
        for members in grouped(range(len(suspects)), lambda i: suspects[i].parts[0].parameter)
        if _rms(after[members]) <= max(FALL * _rms(before[members]), prober.precision.zero)
        for index in members
    ]


def _rms(values: Iterable[float]) -> float:
    finite = np.array([v for v in values if np.isfinite(v)])
    return float(np.sqrt(np.mean(finite**2))) if finite.size else np.inf
