"""The step law of SGD: each step is what the settings make of this gradient and of the step before.

The law of motion (`theory.motion`) is an identity in the recorded products at every pair of
neighbouring steps, under any schedule. What a healthy run leaves is rounding of the weights.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from spherical_motion.comparison.laws.settings_fit import Fit
from spherical_motion.comparison.motion import Motion
from spherical_motion.vocabulary import Stage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepLaw:
    """The law of motion of one group in one stage; residuals are shares of the law's largest term.

    Pairs between which the weights were written are left out: `Continuity` has them.

    Attributes:
        pairs: steps at which the law was tested.
        median, worst: residuals over them.
        allowed: the residual that rounding explains, the median over the steps.
        failing: steps whose residual is above what rounding explains.
        first, last: the stretch in which most steps fail; None if there is none.
        stretch: steps tested in that stretch.
        spikes: failing steps outside of it.
        spike_steps: the first few of them.
        fit: the settings with which the steps of the stretch were made; None if nothing fails in a
            row, or too few steps do.
        unknown: why the law was not tested; empty if it was.
    """

    pairs: int = 0
    median: float = math.nan
    worst: float = math.nan
    allowed: float = math.nan
    failing: int = 0
    first: int | None = None
    last: int | None = None
    stretch: int = 0
    spikes: int = 0
    spike_steps: tuple[int, ...] = ()
    fit: Fit | None = None
    unknown: str = ""


def step_law_of(
    motion: Motion, stage: Stage, mixed: Sequence[tuple[float, float, float]] = ()
) -> StepLaw:
    """Test the law of motion at every pair of neighbouring steps of a stage.

    Args:
        motion: the group's whole run.
        stage: the steps to test.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    raise NotImplementedError
