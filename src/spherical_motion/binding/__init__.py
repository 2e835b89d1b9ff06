"""From names to tensors: which pieces a group has, and which optimizer steps them.

In come a model, its invariant groups and optimizers; out go `Members` (the pieces as tensors, with
the param groups that step them) and `Coverage` (the parameters that groups cover as a whole).
"""

from spherical_motion.binding.arguments import as_groups, check_max_defect, check_state
from spherical_motion.binding.coverage import Coverage, cover, invariant_param_groups
from spherical_motion.binding.disjoint import disjoint_groups
from spherical_motion.binding.members import MAX_DEFECT, Members, Piece, Rows, bind
from spherical_motion.binding.settings import class_name
from spherical_motion.binding.split import split_param_groups

__all__ = [
    "MAX_DEFECT",
    "Coverage",
    "Members",
    "Piece",
    "Rows",
    "as_groups",
    "bind",
    "check_max_defect",
    "check_state",
    "class_name",
    "cover",
    "disjoint_groups",
    "invariant_param_groups",
    "split_param_groups",
]
