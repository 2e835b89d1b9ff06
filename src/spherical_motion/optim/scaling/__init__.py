"""Invariant weights multiplied by a factor, and everything that was gathered at the old ones.

In come bound groups and a factor for each. Weights, pending gradients, the optimizer's state and
the running statistics of norm layers are changed in place, so that the network computes the same
and trains as if its weights had always had the new scale.
"""

from spherical_motion.optim.scaling.state import (
    STATE_POWERS,
    merged_pieces,
    scale_state_,
    state_powers,
)
from spherical_motion.optim.scaling.statistics import (
    PROBE,
    Following,
    has_running_statistics,
    rescale_statistics_,
    scale_buffers_,
    statistics_factors,
    statistics_following,
    statistics_shifts,
)
from spherical_motion.optim.scaling.weights import scale_members_, scale_pieces_

__all__ = [
    "PROBE",
    "STATE_POWERS",
    "Following",
    "has_running_statistics",
    "merged_pieces",
    "rescale_statistics_",
    "scale_buffers_",
    "scale_members_",
    "scale_pieces_",
    "scale_state_",
    "state_powers",
    "statistics_factors",
    "statistics_following",
    "statistics_shifts",
]
