"""Why a parameter is in no group, in words and with the number behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.inspection import Uncovered
from spherical_motion.invariance.joint import joint_partners
from spherical_motion.invariance.slices import Evidence, LiveRows, totals_over
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import Cell

__all__ = ["partial_warnings", "reasons_for"]

DEAD = "no gradient: dead or unused on these inputs, which is no evidence either way"
SHIFT = "its gradient vanishes: a shift in front of a norm layer, without effect on the outputs"
LOCAL = "only locally invariant: a finite rescaling changes the outputs (is something clipped?)"


def reasons_for(
    uncovered: Sequence[str],
    evidence: Evidence,
    silent: Mapping[str, NDArray[np.bool_]],
    dropped: Sequence[Cell],
    zero: float,
) -> tuple[Uncovered, ...]:
    """A reason for each parameter in no group.

    Args:
        uncovered: their names.
        evidence: row sums of the probes, shape (probes, rows).
        silent: for each parameter its rows, along axis 0, without a gradient beyond rounding.
        dropped: candidates that failed the certificate.
        zero: threshold below which a sum of t counts as zero.
    """
    failed = {part.parameter for cell in dropped for part in cell}
    heard = [p for p in uncovered if not silent[p].all()]
    joint = joint_partners(heard, evidence, zero)
    found = []
    for parameter in uncovered:
        if not any(rows.gg.any() for rows in evidence[parameter]):
            reason = DEAD
        elif silent[parameter].all():
            reason = SHIFT
        elif parameter in failed:
            reason = LOCAL
        elif parameter in joint:
            reason = f"invariant only jointly with {', '.join(joint[parameter])}"
        else:
            whole: list[Cell] = [(Slice(parameter, 0, 0, evidence[parameter][0].rows),)]
            defect = float(np.nanmax(totals_over(evidence, whole).defect()))
            reason = f"no direction-only symmetry found: |Σ⟨w,g⟩| / (‖w‖‖g‖) = {defect:.2g}"
        found.append(Uncovered(parameter, reason))
    return tuple(found)


def partial_warnings(cells: Sequence[Cell], live: LiveRows) -> list[str]:
    """One line for each parameter of which only a part is certified."""
    held: dict[tuple[str, int], int] = {}
    for cell in cells:
        for part in cell:
            key = (part.parameter, part.axis)
            held[key] = held.get(key, 0) + part.length
    return [
        f"{parameter}: {alive.size - count} of {alive.size} rows are not certified; "
        f"{int((~alive).sum())} of all have no gradient on these inputs, which is no evidence "
        "either way."
        for (parameter, axis), count in held.items()
        if count < (alive := live[parameter][axis]).size
    ]
