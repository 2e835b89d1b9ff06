"""Continuity: the weights before a step are those after the step before it.

|w_{t+1}|² = |w_t|² + 2<w, d>_t + |d_t|² holds for every optimizer, schedule and loss. It fails only
where something beside the optimizer's step wrote the weights: a copy of averaged weights, a
projection, decay by hand, a second optimizer, weights that were rolled back.
"""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import NO_ESTIMATE, Estimate
from spherical_motion.vocabulary import Stage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Continuity:
    """Who wrote the weights between the steps of one group in one stage.

    Attributes:
        pairs: neighbouring steps between which the weights were compared. Pairs between which one
            of our own tools rescaled, or the run was resumed, are not among them.
        written: pairs between which something else wrote the weights.
        steps: the steps before which it did, the first few in order.
        write: relative change of the norm by one write, the median of |change|; NaN if none.
        whole: whether every step of the stage is on record, so that no write can be missed.
        resumed: the largest relative change of the norm at which the run was resumed; NaN if it was
            not. A run that goes on from its own checkpoint has 0.
        gap: relative change of |w| a step between bursts beyond that of the steps inside them, and
            its interval; unknown where every step is on record, or the bursts are too few.
    """

    pairs: int = 0
    written: int = 0
    steps: tuple[int, ...] = ()
    write: float = math.nan
    whole: bool = False
    resumed: float = math.nan
    gap: Estimate = NO_ESTIMATE


def continuity_of(motion: Motion, stage: Stage) -> Continuity:
    """Compare the norm after each step of a stage with the norm before the next one.

    Args:
        motion: the group's whole run.
        stage: the steps to look at; the step before the first one is compared with it.
    """
    raise NotImplementedError
