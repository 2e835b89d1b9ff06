"""A run without weight decay, compared with the run that has it (the decayed run).

In: the settings of the decayed run at each step. Out: the rates and the relative scale of the run
without decay (`Growth`), applied to a param group and its weights (`SteeredGroup`).
"""

from spherical_motion.optim.growth.growth import Growth
from spherical_motion.optim.growth.steered import SteeredGroup
