"""The decisions and actions of `RescaleOnDecay` for one param group.

In come changed settings. Out come the factor that is due (`ScaledFor`), the factors that defects
allow (`limited`), and a network multiplied by them (`Rescaler`).
"""

from spherical_motion.optim.rescaling.planning import MARK, ScaledFor, limited, lowest_products
from spherical_motion.optim.rescaling.rescaler import Rescaler
