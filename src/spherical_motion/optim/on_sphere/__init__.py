"""What `AdaGradG` and `AdamG` share: an optimizer that steps on the sphere of each group.

In: param groups, some of which hold bound groups. Out: an optimizer that lacks only its
rule: factors of a group from its inner products. Other parameters take torch's own steps.
"""

from spherical_motion.optim.on_sphere.checks import common_settings, two_param_groups
from spherical_motion.optim.on_sphere.optimizer import Flags, NormedOptimizer, State
from spherical_motion.optim.on_sphere.others import check_betas, other_settings
