"""Models of other libraries: a name on the command line goes in, a model and inputs come out.

`loading` chooses the loader of the library that a name begins with; `inputs` makes random inputs.
"""

from spherical_motion.compat.inputs import random_input, random_tokens
from spherical_motion.compat.loading import load_model
from spherical_motion.compat.torchvision_on_cpu import ensure_torchvision

__all__ = ["ensure_torchvision", "load_model", "random_input", "random_tokens"]
