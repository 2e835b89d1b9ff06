"""The radial law: a certified group has <w, g> = 0; if not, what the recorded steps say of why.

A norm layer's epsilon gives <w, g> of either sign, which fades as |w| grows. Weight decay inside
the loss adds κ·w to the gradient: <w, g>/<w, w> = κ > 0, the same at every step, at every |w| and
in every group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import NO_ESTIMATE, Estimate
from spherical_motion.vocabulary import Stage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RadialLaw:
    """The radial part of one certified group's gradient in one stage.

    Attributes:
        samples: steps with a gradient.
        share: mean <w, g> over mean λ|w|², the loss's radial part beside weight decay's, as
            `Measured.radial_share`; NaN without decay.
        defect: √(mean <w, g>² / mean |w|²|g|²).
        expected_defect: the certified defect at the smallest norm, which grows as 1/|w|².
        kappa: κ = mean <w, g> / mean |w|² with its 95% interval, in units of weight decay.
        spread: how much κ differs from step to step, over |κ|: half of the distance of its 16% and
            84% quantiles.
        power: d ln|κ| / d ln|w| within the stage: 0 for hidden decay, about -4 for epsilon; NaN
            where the norm moved too little to tell, or κ changes its sign.
        positive: share of the steps at which κ > 0.
        agreeing: other certified groups whose κ is the same within its error.
        others: other certified groups whose κ is known.
        hidden: whether κ is what decay hidden in the gradient gives: positive, steady over the
            steps, beyond the certified defect, and the same in most other groups.
        peak: share of the non-zero gradient entries that have exactly the largest size, from the
            audit; NaN if it has none.
        epsilon: mean of ε/(var + ε) over the norm layers, from the audit.
        eval_mode: share of the audited steps at which a norm layer was in eval mode.
    """

    samples: int = 0
    share: float = math.nan
    defect: float = math.nan
    expected_defect: float = math.nan
    kappa: Estimate = NO_ESTIMATE
    spread: float = math.nan
    power: float = math.nan
    positive: float = math.nan
    agreeing: int = 0
    others: int = 0
    hidden: bool = False
    peak: float = math.nan
    epsilon: float = math.nan
    eval_mode: float = math.nan


def radial_pulls(motions: Iterable[Motion]) -> dict[str, Estimate]:
    """κ of every certified group over its whole run, for `radial_law_of`, by the group's name."""
    raise NotImplementedError


def radial_law_of(
    motion: Motion,
    stage: Stage,
    *,
    pulls: Mapping[str, Estimate] | None = None,
    peak: float = math.nan,
    epsilon: float = math.nan,
    eval_mode: float = math.nan,
) -> RadialLaw:
    """The radial part of a group's gradient in a stage.

    Args:
        motion: the group's whole run.
        stage: the steps to look at.
        pulls: `radial_pulls` of the run; without it no group has others to agree with.
        peak, epsilon, eval_mode: what the audit has of the group in this stage (`AuditedSteps`).
    """
    raise NotImplementedError
