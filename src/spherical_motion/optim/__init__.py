"""Steering: optimizers, schedules and rescalings that use how invariant weights move."""

from spherical_motion.optim.adagrad_g import AdaGradG, SgdOnSphere
from spherical_motion.optim.adam_g import AdamG
from spherical_motion.optim.adamc import ProportionalDecay
from spherical_motion.optim.equilibrium import EquilibriumStart, scale_to_equilibrium
from spherical_motion.optim.exponential import ExponentialSchedule
from spherical_motion.optim.members import Members, Piece, bind
from spherical_motion.optim.split import split_param_groups

__all__ = [
    "AdaGradG",
    "AdamG",
    "SgdOnSphere",
    "Members",
    "Piece",
    "bind",
    "EquilibriumStart",
    "ExponentialSchedule",
    "ProportionalDecay",
    "scale_to_equilibrium",
    "split_param_groups",
]
