"""Decide when the weights of a param group are rescaled and by how much."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spherical_motion.vocabulary import HyperParameters, InvariantGroup

Factor = Callable[[HyperParameters, HyperParameters], float]
"""`factor(old, new)`, the ratio of the norms at two settings."""

MARK = "rescaled_for"
"""Key of a param group that holds `ScaledFor.mark`."""

_IRRELEVANT = ("eps", "maximize")
"""Settings that do not change the equilibrium norm."""


@dataclasses.dataclass
class ScaledFor:
    """The settings that the weights of one param group are scaled for.

    Attributes:
        settings: None before the first with an equilibrium.
        fallen: whether the equilibrium norm has ever fallen; before that it is warm-up.
        product: of all factors so far, ignoring limits by defects.
    """

    settings: HyperParameters | None = None
    fallen: bool = False
    product: float = 1.0

    @classmethod
    def at(cls, settings: HyperParameters) -> ScaledFor:
        """For weights that were trained at `settings`, if these have an equilibrium."""
        return cls(settings if has_rate_and_decay(settings) else None)

    @classmethod
    def from_mark(cls, mark: Mapping[str, Any]) -> ScaledFor:
        settings = HyperParameters(**mark["settings"]) if mark["settings"] else None
        return cls(settings, mark.get("fallen", False), mark.get("scaled", 1.0))

    def mark(self) -> dict[str, Any]:
        """The same as plain numbers."""
        kept = {} if self.settings is None else dataclasses.asdict(self.settings)
        settings = {name: x for name, x in kept.items() if name not in _IRRELEVANT} or None
        return {"settings": settings, "fallen": self.fallen, "scaled": self.product}

    def due(
        self, new: HyperParameters, ratio: Factor, threshold: float, skip_warmup: bool
    ) -> float | None:
        """The factor to rescale by when the settings become `new`; None if none is due.

        During a warm-up `settings` becomes `new` without a factor. Below the threshold it does not,
        so that small changes add up.
        """
        if not has_rate_and_decay(new):
            return None
        old = self.settings
        factor = 1.0 if old is None else ratio(old, new)
        if old is None or (factor > 1.0 and skip_warmup and not self.fallen):
            self.settings = new
            return None
        self.fallen |= factor < 1.0
        if factor == 1.0 or abs(math.log(factor)) < math.log(threshold):
            return None
        return factor


def has_rate_and_decay(settings: HyperParameters) -> bool:
    """Whether there are both a rate and a decay; without either no norm comes to rest."""
    return settings.lr != 0.0 and settings.weight_decay != 0.0


def lowest_products(
    groups: Sequence[InvariantGroup], power: float, max_defect_after: float | None
) -> list[float]:
    """Per group, the product of factors below which its defect is above `max_defect_after`.

    At most 1. Variances in front of norm layers scale as the factor to the given power.

    >>> from spherical_motion.vocabulary import Slice
    >>> group = InvariantGroup("0", "scale", (Slice("w", 0, 0, 2),), (), 4, defect=0.0025)
    >>> lowest_products([group], 2.0, max_defect_after=0.01)
    [0.5]
    """
    if max_defect_after is None:
        return [0.0] * len(groups)
    shares = [group.defect / max_defect_after for group in groups]
    return [min(1.0, share ** (1.0 / power)) if share > 0.0 else 0.0 for share in shares]


def limited(floors: Sequence[float], before: float, after: float, factor: float) -> list[float]:
    """The factor of each group, so that its product of factors stays at or above its floor.

    A group that is held at its floor now, or has been, ends at `max(floor, after)`. The products
    `before` and `after` = before × factor are those of a group without a floor.

    >>> limited([0.0, 0.5], 1.0, 0.25, 0.25)
    [0.25, 0.5]
    """
    least = min(before, after)
    return [factor if f <= least else max(f, after) / max(f, before) for f in floors]
