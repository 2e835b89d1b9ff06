"""Where a group stands between its norm now and its norm at rest: one number, the excess y/y*.

y is the power of the norm that relaxes linearly (`theory.relaxing_power`), y* its value at rest
under the settings of the moment. The angle is Δ*·(y/y*)^{-1/2}: a heavy group turns too little.
"""

from __future__ import annotations

import dataclasses
import math

from spherical_motion import checks
from spherical_motion.errors import OutOfDomain
from spherical_motion.theory import GroupFacts, family_of
from spherical_motion.theory.group import Fact
from spherical_motion.vocabulary.hyperparameters import HyperParameters

WITHIN = 0.05
"""A group counts as settled when its angle is within this share of equilibrium."""

SMALLEST = 1e-75
"""Fourth root of the smallest excess that can be used."""


def with_drive(hp: HyperParameters, drive: float, facts: GroupFacts) -> GroupFacts:
    """`facts` with this drive."""
    return dataclasses.replace(facts, **{family_of(hp).drive: drive})


@checks.validated
def rest_excess(
    hp: HyperParameters, norm: float, drive: float, *,
    unit_grad_sq: Fact = None, overlap: Fact = None, numel: Fact = None,
    unit_grad_rms: Fact = None, correlation: Fact = None, update_sq: Fact = None,
) -> float:  # fmt: skip
    """Excess y/y* of a group of this norm under this drive (`Family.drive` names it).

    >>> round(rest_excess(HyperParameters("sgd", lr=0.1, weight_decay=1e-3), 500**0.25, 10.0), 3)
    1.0
    """
    facts = GroupFacts(unit_grad_sq, overlap, numel, unit_grad_rms, correlation, update_sq)
    return excess_under(hp, norm, drive, facts)


def excess_under(hp: HyperParameters, norm: float, drive: float, facts: GroupFacts) -> float:
    """`rest_excess` with the facts as one object."""
    ratio, power = norm / norm_at_rest(hp, drive, facts), family_of(hp).power
    if not SMALLEST < ratio ** (power / 4) < 1.0 / SMALLEST:
        raise OutOfDomain(
            f"A norm of {norm:g} is {ratio:.3g} times the one at rest under this drive; the "
            "theory's excess, a power of that, is beyond float64. Check norm and drive."
        )
    return ratio**power


def norm_at_rest(hp: HyperParameters, drive: float, facts: GroupFacts) -> float:
    """The norm at rest under this drive."""
    return family_of(hp).norm(hp, with_drive(hp, drive, facts))


def has_equilibrium(hp: HyperParameters, facts: GroupFacts) -> bool:
    """Whether these settings have one: a rate and a weight decay above 0 and not too large."""
    try:
        return math.isfinite(family_of(hp).angle(hp, facts))
    except OutOfDomain:
        return False


def whole_steps(steps: float) -> float:
    """Rounded up; inf stays inf.

    >>> whole_steps(2.1), whole_steps(math.inf)
    (3, inf)
    """
    return math.ceil(steps) if math.isfinite(steps) else math.inf
