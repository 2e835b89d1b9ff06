"""From the probes to candidates: sums that vanish in every probe, and sums that nearly do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import ModelError
from spherical_motion.invariance.running import Evidence, Precision, stacked
from spherical_motion.invariance.search.joint import search_modules
from spherical_motion.invariance.search.ledger import Ledger
from spherical_motion.invariance.search.profiles import search_profiles
from spherical_motion.invariance.search.slices import (
    LiveRows,
    blocks_of,
    nearly_blocks_of,
    typical_sizes,
    without_noise,
)
from spherical_motion.invariance.search.streams import search_totals
from spherical_motion.invariance.search.symmetry import Symmetry
from spherical_motion.vocabulary.groups import module_of

ALIVE_PROBES = 2
"""A row counts as live if it has a gradient in at least this many probes."""


def gathered(probes: Sequence[Evidence], precision: Precision) -> Evidence:
    """Several passes' row sums as arrays of shape (probes, rows), without rounding errors.

    Raises:
        ModelError: a gradient is not finite.
    """
    evidence = stacked(probes)
    broken = [name for name, axes in evidence.items() if not np.isfinite(axes[0].gg).all()]
    if broken:
        raise ModelError(
            f"{', '.join(broken[:3])}: expected finite gradients near the model's weights, found "
            f"inf or NaN in {len(broken)} of {len(evidence)} parameters. Check that the weights, "
            "the inputs and the loss are finite."
        )
    return without_noise(evidence, precision.dead)


def live_rows(evidence: Evidence, precision: Precision) -> LiveRows:
    """Which rows have a gradient beyond rounding errors.

    A bias in front of a batch norm has ‖g‖ around 1e-16 beside its neighbours, a row behind a
    dead ReLU exactly 0: neither is evidence about ⟨w, g⟩.
    """
    typical = typical_sizes(evidence)
    return {
        name: tuple(
            (rows.size > precision.dead * typical[:, None]).sum(axis=0) >= ALIVE_PROBES
            for rows in axes
        )
        for name, axes in evidence.items()
    }


def shift_rows(evidence: Evidence, live: LiveRows) -> dict[str, NDArray[np.bool_]]:
    """Rows, along axis 0, that look like shifts in front of a norm.

    Their gradient is made of rounding errors, while another parameter of their module has a real
    one. A gain between two norms has none either and is no shift; the rest of its module has none
    too.
    """
    alive: dict[str, set[str]] = {}
    for name, axes in live.items():
        if axes[0].any():
            alive.setdefault(module_of(name), set()).add(name)
    return {
        name: ~axes[0] & evidence[name][0].gg.any(axis=0)
        for name, axes in live.items()
        if alive.get(module_of(name), set()) - {name}
    }


def proposed(
    evidence: Evidence, live: LiveRows, zero: float
) -> tuple[list[Symmetry], list[Symmetry]]:
    """(symmetries whose Σt vanishes in every probe, suspects whose Σt is merely small).

    The finest first: rows and blocks of one parameter, of one module, rows of parameters of equal
    length, whole parameters. A parameter that cancels exactly against others is no suspect: a gain
    with a much smaller shift looks like a weight with an ε, and follows the same law.
    """
    ledger = Ledger(evidence, live, zero)
    for name, axes in evidence.items():
        if live[name][0].any():
            blocks = blocks_of(name, axes, live[name], zero)
            ledger.accept(Symmetry.scale([part]) for part in blocks)
    search_modules(ledger)
    search_profiles(ledger)
    search_totals(ledger)

    placed = {part.parameter for symmetry in ledger.found for part in symmetry.parts}
    suspects = [
        Symmetry.scale([part])
        for name in ledger.open_tensors()
        if name not in placed
        for part in nearly_blocks_of(name, evidence[name], live[name])
    ]
    return ledger.found, suspects
