"""Where a group stands between its norm now and its norm at rest: one number, the excess y/y*.

y is the power of the norm that relaxes linearly (`theory.relaxing_power`), y* its value at rest
under the settings of the moment. The angle is Δ*·(y/y*)^{-1/2}: a heavy group turns too little.
"""

from __future__ import annotations

import math
from typing import Unpack

from spherical_motion import theory
from spherical_motion.errors import OutOfDomain
from spherical_motion.theory import Family, Given
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = ["WITHIN", "drive_name", "has_equilibrium", "norm_at_rest", "rest_excess", "with_drive"]

WITHIN = 0.05
"""A group counts as settled when its angle is within this share of equilibrium."""

DRIVES = {
    Family.ADAMW: "numel",
    Family.ADAM_L2: "unit_grad_rms",
    Family.LION: "numel",
    Family.ANY_DECOUPLED: "update_sq",
}
"""The keyword that holds what pushes the norm outward, where it is not `unit_grad_sq`."""


def drive_name(hp: HyperParameters) -> str:
    """The keyword of `Given` that holds this optimizer's drive.

    >>> drive_name(HyperParameters("adamw", lr=1e-3))
    'numel'
    """
    return DRIVES.get(theory.family_of(hp), "unit_grad_sq")


def with_drive(hp: HyperParameters, drive: float, given: Given) -> Given:
    """`given` with its drive set."""
    filled: Given = {**given, drive_name(hp): drive}  # type: ignore[misc]
    return filled


def rest_excess(hp: HyperParameters, norm: float, drive: float, **given: Unpack[Given]) -> float:
    """Excess y/y* of a group of this norm under this drive (`drive_name`).

    >>> round(rest_excess(HyperParameters("sgd", lr=0.1, weight_decay=1e-3), 500**0.25, 10.0), 3)
    1.0
    """
    return (norm / norm_at_rest(hp, drive, given)) ** theory.relaxing_power(hp)


def norm_at_rest(hp: HyperParameters, drive: float, given: Given) -> float:
    """The norm under which outward and inward pull balance."""
    return theory.equilibrium_norm(hp, **with_drive(hp, drive, given))


def has_equilibrium(hp: HyperParameters, given: Given) -> bool:
    """Whether these settings have one: a rate and a weight decay above 0 and not too large."""
    try:
        return math.isfinite(theory.equilibrium_angle(hp, **given))
    except OutOfDomain:
        return False
