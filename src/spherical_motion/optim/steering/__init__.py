"""Acting around an optimizer's steps: hooks that come first, and the settings they follow.

In come an optimizer and what to run before and after its steps; out go `StepHooks`, which one tool
at a time may have, and `SettingsWatch`, which finds the param groups whose settings have changed.
"""

from spherical_motion.optim.steering.hooks import Closing, StepHooks
from spherical_motion.optim.steering.settings import ParamGroup, SettingsWatch
from spherical_motion.optim.steering.sgd_step import SgdStep

__all__ = ["Closing", "ParamGroup", "SettingsWatch", "SgdStep", "StepHooks"]
