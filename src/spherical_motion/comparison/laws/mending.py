"""Which one setting, changed, would bring the balance law to 1: for Adam and its relatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import Stage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One setting whose change brings the balance law to 1 in all windows of a stage.

    Attributes:
        setting: "lr", "weight_decay" or "momentum" (β1).
        value: what it would have to be, with its 95% interval; the mean of a setting that varies.
        declared: what was recorded, the mean over the same steps.
        ratio: √(Σ turned / Σ law) with this value, over the whole stage.
        before: the same ratio with the declared settings.
        left: root mean square of what single steps leave, over that with the declared settings.
        windows: windows in which the ratio was tested.
    """

    setting: str
    value: Estimate
    declared: float
    ratio: float
    before: float
    left: float
    windows: int


def mend(
    motion: Motion, stage: Stage, mixed: Sequence[tuple[float, float, float]] = ()
) -> tuple[Mend, ...]:
    """The settings whose change explains a balance that is off, the most likely first.

    Empty if none does, if the law holds as it is, or if it is not known. More than one is named
    where the steps do not tell them apart: each of them is possible then.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    raise NotImplementedError
