"""Where the gradient's size changed at once in all groups: a loss scale, another batch size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from spherical_motion.comparison.motion import Motion


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScaleChange:
    """The gradients of nearly all groups became larger or smaller from one step to the next.

    Attributes:
        step: the first step with the new size.
        factor: new size over old size of the gradient's norm, the median over the groups.
        groups: how many groups changed by it in this direction.
        known: how many groups have a gradient on both sides.
        spread: how much the groups' factors differ, half of the distance of the 16% and 84%
            quantiles of ln factor; near 0 for a loss scale.
    """

    step: int
    factor: float
    groups: int
    known: int
    spread: float


def scale_changes(motions: Iterable[Motion]) -> tuple[ScaleChange, ...]:
    """Steps at which the size of the gradient changed in all groups at once, in order.

    A slow change and one that follows a change of the settings are not among them.

    Args:
        motions: the whole runs of all groups.
    """
    raise NotImplementedError
