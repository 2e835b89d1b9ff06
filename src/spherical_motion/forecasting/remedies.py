"""How a stage can reach its equilibrium: lighter weights, more steps, or more weight decay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from spherical_motion import checks
from spherical_motion.errors import OutOfDomain
from spherical_motion.forecasting.state import WITHIN, excess_under, whole_steps, with_drive
from spherical_motion.theory import GroupFacts, family_of
from spherical_motion.vocabulary.hyperparameters import HyperParameters

LARGEST_FACTOR = 1e6
"""The largest factor of the weight decay that is tried."""


@dataclasses.dataclass(frozen=True, slots=True)
class Remedy:
    """Three remedies for a stage that is too short; each works alone.

    Attributes:
        rescale: factor for the group's weights at the start of the stage, after which it is at
            rest at once (momentum × 1/rescale, Adam's second moment × 1/rescale²). After a drop
            by k from equilibrium it is k^{-1/4} for SGD, k^{-1/2} for decoupled decay with steps
            of given size (wan2020, section 4.1).
        steps: length at which the stage settles; inf if none does.
        weight_decay: least factor for the weight decay of this stage that settles it within its
            length; NaN if none does, or if the norm is too small rather than too large.
        angle: by what factor that raises its equilibrium angle; NaN with it.
    """

    rescale: float
    steps: float
    weight_decay: float
    angle: float


@checks.validated
def find_remedy(
    hp: HyperParameters,
    norm: float,
    drive: float,
    facts: GroupFacts | Mapping[str, float],
    steps: int,
) -> Remedy:
    """The remedies of a stage of `steps` steps that starts at this norm, under this drive.

    The angle and the time to reach it both depend on ηλ, so a larger weight decay shortens the
    stage and also raises its equilibrium angle.
    """
    facts = facts if isinstance(facts, GroupFacts) else GroupFacts(**facts)
    excess, family = excess_under(hp, norm, drive, facts), family_of(hp)
    factor = _least_factor(hp, norm, drive, facts, steps) if excess > 1.0 else math.nan
    angle = math.nan
    if math.isfinite(factor):
        filled = with_drive(hp, drive, facts)
        angle = family.angle(_decayed(hp, factor), filled) / family.angle(hp, filled)
    needed = _steps_needed(hp, norm, drive, facts)
    return Remedy(excess ** (-1.0 / family.power), needed, factor, angle)


def _decayed(hp: HyperParameters, factor: float) -> HyperParameters:
    return dataclasses.replace(hp, weight_decay=hp.weight_decay * factor)


def _steps_needed(hp: HyperParameters, norm: float, drive: float, facts: GroupFacts) -> float:
    filled = with_drive(hp, drive, facts)
    excess = excess_under(hp, norm, drive, facts)
    return whole_steps(family_of(hp).steps_to_within(hp, excess, WITHIN, filled))


def _least_factor(
    hp: HyperParameters, norm: float, drive: float, facts: GroupFacts, steps: int
) -> float:
    """Bisection on the logarithm: the steps needed fall as the weight decay rises."""

    def settles(factor: float) -> bool:
        try:
            more = _decayed(hp, factor)
            excess = excess_under(more, norm, drive, facts)
            filled = with_drive(more, drive, facts)
            return family_of(more).settles(more, excess, WITHIN, filled, steps)
        except OutOfDomain:  # so much decay that there is no equilibrium any more
            return False

    low = high = 1.0
    while not settles(high):
        low, high = high, high * 2.0
        if high > LARGEST_FACTOR:
            return math.nan
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if settles(middle) else (middle, high)
    return high
