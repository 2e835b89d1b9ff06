"""Other people's code, met half way: loading models that are named on a command line."""

from spherical_motion.compat.loading import load_model, random_input

__all__ = ["load_model", "random_input"]
