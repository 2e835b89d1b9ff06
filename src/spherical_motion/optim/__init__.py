"""Steering: optimizers, schedules and rescalings that use how invariant weights move.

In: a model, its invariant groups and an optimizer. Out: weights that move as the theory says.
Each tool has a file with its name; the folders hold code that tools share.
"""

from spherical_motion.binding import Members, Piece, bind, disjoint_groups, split_param_groups
from spherical_motion.optim.adagrad_g import AdaGradG, SgdOnSphere
from spherical_motion.optim.adam_g import AdamG
from spherical_motion.optim.equilibrium_start import EquilibriumStart, scale_to_equilibrium
from spherical_motion.optim.exponential_schedule import ExponentialSchedule
from spherical_motion.optim.proportional_decay import ProportionalDecay
from spherical_motion.optim.rescale_on_decay import RescaleOnDecay, equilibrium_norm_ratio
from spherical_motion.optim.rotational import Rotational
from spherical_motion.optim.scaling import rescale_statistics_, scale_state_

__all__ = [
    "AdaGradG",
    "AdamG",
    "SgdOnSphere",
    "Rotational",
    "RescaleOnDecay",
    "equilibrium_norm_ratio",
    "Members",
    "Piece",
    "bind",
    "disjoint_groups",
    "EquilibriumStart",
    "ExponentialSchedule",
    "ProportionalDecay",
    "scale_to_equilibrium",
    "rescale_statistics_",
    "scale_state_",
    "split_param_groups",
]
