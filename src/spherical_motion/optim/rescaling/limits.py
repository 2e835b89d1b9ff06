"""How far groups may be shortened before the epsilon of their norm layers counts."""

from __future__ import annotations

from collections.abc import Sequence

from spherical_motion.vocabulary import InvariantGroup

__all__ = ["limited", "lowest_products"]


def lowest_products(
    groups: Sequence[InvariantGroup], power: float, max_defect_after: float | None
) -> list[float]:
    """Per group, the product of factors below which its defect is too large; at most 1.

    Args:
        groups: with the defects of their certificates.
        power: variances in front of norm layers go as this power of the factor.
        max_defect_after: the largest defect; None for any.

    >>> groups = [InvariantGroup("0", "scale", (), (), 4, defect=0.0025)]
    >>> lowest_products(groups, 2.0, max_defect_after=0.01)
    [0.5]
    """
    if max_defect_after is None:
        return [0.0] * len(groups)
    shares = [group.defect / max_defect_after for group in groups]
    return [min(1.0, share ** (1.0 / power)) if share > 0.0 else 0.0 for share in shares]


def limited(floors: Sequence[float], before: float, after: float, factor: float) -> list[float]:
    """The factor of each group, so that its product of factors stays at or above its floor.

    A group that is held at its floor now, or has been, ends at `max(floor, after)`.

    Args:
        floors: see `lowest_products`.
        before: the product of all factors so far, as if there were no floors.
        after: before × factor.
        factor: what a group without a floor is multiplied by.

    >>> limited([0.0, 0.5], 1.0, 0.25, 0.25)
    [0.25, 0.5]
    """
    least = min(before, after)
    return [factor if f <= least else max(f, after) / max(f, before) for f in floors]
