"""A run without weight decay beside the run with it: how far ahead its weights are.

In come the settings of the decayed run, step by step; out go the rates of the run without decay
(`Growth`), and its param groups with their weights (`SteeredGroup`).
"""

from spherical_motion.optim.growth.growth import Growth
from spherical_motion.optim.growth.steered import SteeredGroup

__all__ = ["Growth", "SteeredGroup"]
