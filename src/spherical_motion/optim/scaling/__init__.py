"""Multiply invariant weights by a factor, with the state and statistics that depend on them.

In: bound groups and a factor for each, or changed settings (`planning` then gives the factor).
Out: weights, pending gradients, optimizer state and running statistics, changed in place: the
network computes the same and trains as if its weights had always had the new scale.
"""

from spherical_motion.optim.scaling.planning import (
    MARK,
    Factor,
    ScaledFor,
    limited,
    lowest_products,
)
from spherical_motion.optim.scaling.rescaler import Rescaler
from spherical_motion.optim.scaling.state import STATE_POWERS, scale_state_, state_powers
from spherical_motion.optim.scaling.statistics import (
    has_running_statistics,
    rescale_statistics_,
    scale_buffers_,
    statistics_factors,
)
from spherical_motion.optim.scaling.weights import scale_members_, scale_pieces_
