"""Gradients that are missing, and gradients that are the same as at the step before."""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Where one group in one stage had no gradient, or did not move.

    A step is dead if there is no gradient or all of it is 0, and frozen if the weights did not
    change at all. "since" steps are those from which this lasts to the end of the stage.

    Attributes:
        samples: recorded steps of the stage.
        dead: share of them without a gradient.
        absent: share at which the gradient was not there (None), a part of `dead`.
        frozen: share at which the weights did not change.
        dead_since, frozen_since: the step since which it lasts; None if it does not, or for too few
            steps.
        absent_at_end: whether there is no gradient (None) at the end, and not one of zeros.
        rate_is_zero: share of the frozen steps whose learning rate is 0.
        gradient_while_frozen: share of the frozen steps that had a gradient and a rate.
    """

    samples: int = 0
    dead: float = math.nan
    absent: float = math.nan
    frozen: float = math.nan
    dead_since: int | None = None
    frozen_since: int | None = None
    absent_at_end: bool = False
    rate_is_zero: float = math.nan
    gradient_while_frozen: float = math.nan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Neighbouring steps of one group that were made with the very same gradient.

    Attributes:
        pairs: neighbouring steps with gradients whose weights differ.
        same: those whose |g|² agree to the last bit.
        steps: the first few of the later ones.
    """

    pairs: int = 0
    same: int = 0
    steps: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        """`same` over `pairs`; NaN without pairs."""
        return self.same / self.pairs if self.pairs else math.nan


def silence(motion: Motion, stage: Stage) -> Silence:
    """Where a group had no gradient or did not move.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
    """
    raise NotImplementedError


def stale(motion: Motion, stage: Stage) -> Stale:
    """Where a group was stepped twice with one gradient.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
    """
    raise NotImplementedError
