"""Other people's code, met half way: loading models that are named on a command line.

`loading` sends a name to one loader a library; `inputs` makes something to feed the model.
"""

from spherical_motion.compat.inputs import random_input, random_tokens
from spherical_motion.compat.loading import load_model
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision

__all__ = ["ensure_torchvision", "load_model", "random_input", "random_tokens"]
