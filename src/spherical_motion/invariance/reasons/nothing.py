"""Why a model has no invariant group at all, and what would change that."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spherical_motion.invariance.reasons.uncovered import Uncovered, Why
from spherical_motion.vocabulary import Cause

OBSTACLES = (
    {Cause.EVAL_MODE, Cause.CLIPPED},
    {Cause.RESIDUAL, Cause.MIXED, Cause.SHARED},
    {Cause.CURVED},
)
"""Causes of parameters that a norm layer does normalize in some way, the least in the way first.
Without a norm layer a small defect is chance."""

DEFECTS = (Why.DEFECT, Why.DEFECT_ALONE)


def why_nothing(uncovered: Sequence[Uncovered]) -> tuple[str, str]:
    """The likeliest cause, and what would change it: each a clause without its full stop.

    Args:
        uncovered: an entry for each parameter of a model in which nothing is invariant.
    """
    causes = {entry.cause for entry in uncovered}
    if Cause.EVAL_MODE in causes:
        return (
            "its norm layers are in eval mode, where running statistics take the place of the "
            "batch's",
            "Call model.train() first",
        )
    if causes <= {Cause.NO_NORM, Cause.DEAD}:
        return (
            "no normalization layer is fed by any of them",
            "A norm layer straight after a matrix makes it scale-invariant",
        )
    return (
        "norm layers run, but no weights, alone or together, can be rescaled without changing "
        "the outputs",
        "A norm layer straight after a matrix, before anything is added, makes it scale-invariant",
    )


def closest(uncovered: Sequence[Uncovered], names: Collection[str]) -> str:
    """The parameter of `names` that a norm layer nearly makes invariant, and what is in the way.

    The one with the least in its way, of these the one of the smallest defect; empty if no norm
    layer normalizes any of them.
    """
    near = [e for e in uncovered if e.parameter in names and any(e.cause in s for s in OBSTACLES)]
    if not near:
        return ""
    entry = min(near, key=_distance)
    kept = [r for i, r in enumerate(entry.reasons) if not i or r.kind in DEFECTS]
    return f"{entry.parameter} ({''.join(map(str, kept))})"


def _distance(entry: Uncovered) -> tuple[int, float]:
    """How much is in the way, and the defect."""
    obstacle = next(i for i, causes in enumerate(OBSTACLES) if entry.cause in causes)
    found = [float(r.numbers["defect"]) for r in entry.reasons if r.kind in DEFECTS]
    return obstacle, min(found, default=1.0)
