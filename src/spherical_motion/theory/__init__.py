"""Closed forms: what the settings alone say about the motion. Pure functions of numbers."""

from spherical_motion.theory._families import Family, family_of
from spherical_motion.theory.equilibrium import (
    equilibrium_angle,
    equilibrium_angle_approx,
    equilibrium_norm,
    equilibrium_step_ratio,
)
from spherical_motion.theory.motion import law_of_motion_residual
from spherical_motion.theory.transient import (
    angle_at_excess,
    driven_norm,
    driven_step_ratio_sq,
    relaxation_rate,
    relaxed_excess,
    relaxing_power,
    steps_to_equilibrium,
    steps_to_within,
)

__all__ = [
    "Family",
    "angle_at_excess",
    "driven_norm",
    "driven_step_ratio_sq",
    "equilibrium_angle",
    "equilibrium_angle_approx",
    "equilibrium_norm",
    "equilibrium_step_ratio",
    "family_of",
    "law_of_motion_residual",
    "relaxation_rate",
    "relaxed_excess",
    "relaxing_power",
    "steps_to_equilibrium",
    "steps_to_within",
]
