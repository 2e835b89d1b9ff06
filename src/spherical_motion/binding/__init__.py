"""From names to tensors: which pieces a group has, who steps them, and who holds an optimizer.

In: a model, its invariant groups and optimizers. Out: `Members` (the pieces as tensors, with
the param groups that step them), param groups of invariant parameters, and every group that can
be watched.
"""

from spherical_motion.binding.arguments import (
    MAX_DEFECT,
    as_groups,
    as_optimizers,
    check_optimizer,
    check_state,
)
from spherical_motion.binding.binder import bind
from spherical_motion.binding.disjoint import disjoint_groups
from spherical_motion.binding.inner_step import InnerSteps
from spherical_motion.binding.members import Members
from spherical_motion.binding.names import NamedParameters
from spherical_motion.binding.optimizer_state import StateReader, read_preconditioner
from spherical_motion.binding.param_groups import invariant_param_groups, split_param_groups
from spherical_motion.binding.pieces import Piece
from spherical_motion.binding.preconditioners import (
    has_stepped,
    preconditioner_rule,
    register_preconditioner,
)
from spherical_motion.binding.registry import (
    Role,
    hold,
    refuse_second,
    release,
    steers_after_step,
)
from spherical_motion.binding.stepping import (
    Steppers,
    class_name,
    scalar_settings,
    stepped_parameters,
)
from spherical_motion.binding.watchable import all_groups, with_plain

__all__ = [
    "MAX_DEFECT",
    "InnerSteps",
    "Members",
    "NamedParameters",
    "Piece",
    "Role",
    "StateReader",
    "Steppers",
    "all_groups",
    "as_groups",
    "as_optimizers",
    "bind",
    "check_optimizer",
    "check_state",
    "class_name",
    "disjoint_groups",
    "has_stepped",
    "hold",
    "invariant_param_groups",
    "preconditioner_rule",
    "read_preconditioner",
    "refuse_second",
    "register_preconditioner",
    "release",
    "scalar_settings",
    "split_param_groups",
    "steers_after_step",
    "stepped_parameters",
    "with_plain",
]
