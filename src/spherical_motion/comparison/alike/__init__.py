"""Many groups at once: those that share steps and settings, as arrays of (groups, steps).

In: a part of a run. Out: what `comparison.laws`, `comparison.balance` and `comparison.gathering`
give for each group, with the same numbers. They are the reference and take whatever is not regular.
"""

from spherical_motion.comparison.alike.laws import radial_laws
from spherical_motion.comparison.alike.motions import Alike, in_parts

__all__ = ["Alike", "in_parts", "radial_laws"]
