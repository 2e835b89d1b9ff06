"""From names to tensors: which pieces a group has, who steps them, and who holds an optimizer.

In come a model, its invariant groups and optimizers. Out go `Members` (the pieces as tensors, with
the param groups that step them) and `Coverage` (the parameters that groups cover as a whole).
"""

from spherical_motion.binding.arguments import (
    MAX_DEFECT,
    as_groups,
    as_optimizers,
    check_max_defect,
    check_optimizer,
    check_state,
)
from spherical_motion.binding.binder import bind
from spherical_motion.binding.coverage import Coverage, cover
from spherical_motion.binding.disjoint import disjoint_groups
from spherical_motion.binding.members import Members
from spherical_motion.binding.names import NamedParameters
from spherical_motion.binding.param_groups import invariant_param_groups
from spherical_motion.binding.pieces import ParamGroup, Piece, Rows
from spherical_motion.binding.registry import Role, hold, refuse_second, release
from spherical_motion.binding.settings import Scalar, class_name, scalar_settings
from spherical_motion.binding.split import split_param_groups
from spherical_motion.binding.stepping import Stepper, Steppers

__all__ = [
    "MAX_DEFECT",
    "Coverage",
    "Members",
    "NamedParameters",
    "ParamGroup",
    "Piece",
    "Role",
    "Rows",
    "Scalar",
    "Stepper",
    "Steppers",
    "as_groups",
    "as_optimizers",
    "bind",
    "check_max_defect",
    "check_optimizer",
    "check_state",
    "class_name",
    "cover",
    "disjoint_groups",
    "hold",
    "invariant_param_groups",
    "refuse_second",
    "release",
    "scalar_settings",
    "split_param_groups",
]
