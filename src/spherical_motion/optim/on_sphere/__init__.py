"""Optimizers that step on the sphere of each group, and what `AdaGradG` and `AdamG` share of them.

In come param groups, of which some hold bound groups; out goes an optimizer that needs only its
rule: factors of a group from its inner products. What is not invariant takes torch's own steps.
"""

from spherical_motion.optim.on_sphere.checks import check_radius, common_settings, split_off
from spherical_motion.optim.on_sphere.optimizer import Flags, NormedOptimizer, State
from spherical_motion.optim.on_sphere.others import check_betas, other_settings

__all__ = [
    "Flags",
    "NormedOptimizer",
    "State",
    "check_betas",
    "check_radius",
    "common_settings",
    "other_settings",
    "split_off",
]
