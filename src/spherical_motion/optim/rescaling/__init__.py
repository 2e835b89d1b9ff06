"""What `RescaleOnDecay` decides and does for one param group.

In come settings that changed. Out go the factor that is due (`ScaledFor`), the factors that the
defects of the groups allow (`limited`), and a network that was multiplied by them (`Rescaler`).
"""

from spherical_motion.optim.rescaling.planning import MARK, ScaledFor, limited, lowest_products
from spherical_motion.optim.rescaling.rescaler import Rescaler

__all__ = ["MARK", "Rescaler", "ScaledFor", "limited", "lowest_products"]
