"""The settings that the weights of a param group are scaled for, kept in checkpoints too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from spherical_motion.vocabulary import HyperParameters

__all__ = ["MARK", "ScaledFor"]

MARK = "rescaled_for"
"""Key of a param group that holds `ScaledFor.mark`."""

_FIELDS = (
    "optimizer",
    "lr",
    "weight_decay",
    "momentum",
    "beta2",
    "nesterov",
    "dampening",
    "decoupled",
)


@dataclasses.dataclass
class ScaledFor:
    """What one param group's weights are scaled for.

    Attributes:
        settings: None before the first with an equilibrium.
        fallen: whether the equilibrium norm has ever fallen; before that it is warm-up.
        product: of all factors so far, as if no defect had limited one.
    """

    settings: HyperParameters | None = None
    fallen: bool = False
    product: float = 1.0

    @classmethod
    def at(cls, settings: HyperParameters) -> ScaledFor:
        """Weights that were trained at `settings`, if these have an equilibrium."""
        return cls(settings if has_equilibrium(settings) else None)

    @classmethod
    def from_mark(cls, mark: Mapping[str, Any]) -> ScaledFor:
        """What a `mark` says."""
        settings = as_settings(mark["settings"])
        return cls(settings, mark.get("fallen", False), mark.get("scaled", 1.0))

    def mark(self) -> dict[str, Any]:
        """The same as plain numbers."""
        return {
            "settings": as_numbers(self.settings),
            "fallen": self.fallen,
            "scaled": self.product,
        }

    def due(
        self,
        new: HyperParameters,
        ratio: Callable[[HyperParameters, HyperParameters], float],
        threshold: float,
        skip_warmup: bool,
    ) -> float | None:
        """The factor to rescale by now that the settings are `new`; None if nothing is due.

        Where no factor is due because of a warm-up the settings are followed; below the threshold
        they are not, so that small changes add up.
        """
        if not has_equilibrium(new):
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


def has_equilibrium(settings: HyperParameters) -> bool:
    """Whether there are both a rate and a decay, without which no norm comes to rest."""
    return settings.lr != 0.0 and settings.weight_decay != 0.0


def as_numbers(settings: HyperParameters | None) -> dict[str, Any] | None:
    """Settings as a mapping of plain numbers."""
    return settings and {field: getattr(settings, field) for field in _FIELDS}


def as_settings(numbers: Mapping[str, Any] | None) -> HyperParameters | None:
    """Settings from such a mapping."""
    return HyperParameters(**numbers) if numbers else None
