"""Parameters of one module whose ⟨w, g⟩ cancel only together: a weight with its bias."""

from __future__ import annotations

from collections.abc import Iterable

from spherical_motion.invariance.slices import Evidence, totals_over
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import Cell

__all__ = ["joint_partners"]


def joint_partners(
    parameters: Iterable[str], evidence: Evidence, zero: float
) -> dict[str, tuple[str, ...]]:
    """For each parameter that is invariant with others of its module: who they are.

    Args:
        parameters: names of those that are not invariant by themselves.
        evidence: row sums of the probes, shape (probes, rows).
        zero: threshold below which a sum of t counts as zero.
    """
    modules: dict[str, list[str]] = {}
    for parameter in parameters:
        modules.setdefault(parameter.rpartition(".")[0], []).append(parameter)
    partners: dict[str, tuple[str, ...]] = {}
    for members in modules.values():
        cell: Cell = tuple(Slice(p, 0, 0, evidence[p][0].rows) for p in members)
        if len(members) > 1 and totals_over(evidence, [cell]).vanish(zero).all():
            partners |= {p: tuple(q for q in members if q != p) for p in members}
    return partners
