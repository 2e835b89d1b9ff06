"""Act around an optimizer's steps: hooks that run first, and the settings that tools follow.

In: an optimizer and functions to run before and after its steps. Out: `StepHooks`, which one
tool at a time may have, and `SettingsWatch`, which finds the param groups with changed settings.
"""

from spherical_motion.optim.steering.hooks import Closing, StepHooks
from spherical_motion.optim.steering.settings import ParamGroup, SettingsWatch
from spherical_motion.optim.steering.sgd_step import SgdStep
