"""Steering: optimizers, schedules and rescalings that use how invariant weights move."""

from spherical_motion.optim.members import Members, Piece, bind

__all__ = [
    "Members",
    "Piece",
    "bind",
]
