"""Which settings the steps of SGD were made with: least squares on the law of motion."""

from __future__ import annotations

import dataclasses
import math

from spherical_motion.estimates import NO_ESTIMATE, Estimate


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The settings that the recorded steps were made with, fitted where the declared ones fail.

    The fit changes as few settings as explain the steps. A setting that it leaves as declared has
    the declared value without an interval. Rates and decays that vary are given by their mean.

    Attributes:
        first, last: the steps between which the declared settings fail.
        pairs: neighbouring steps that were used.
        lr, weight_decay, momentum: the real settings with their 95% intervals; NaN where the steps
            do not determine them. Where <w, g> is 0, as in certified groups, only lr × weight_decay
            is determined: lr is NaN then, and weight_decay is what it would be at the declared lr.
        declared: (lr, weight_decay, momentum) as recorded, means over the same steps.
        changed: names of the settings that differ from what was declared; empty if no settings
            explain the steps.
        possible: every set of as few settings that explains the steps, `changed` among them.
        form: an update rule other than the declared one that explains the steps with the declared
            settings: "decoupled weight decay", "weight decay through the gradient", "Nesterov
            momentum", "heavy-ball momentum"; empty if none does or none is needed.
        residual: median residual that the fit leaves, as a share of the largest term of the law.
        before: median residual of the same steps with the declared settings.
        explains: whether the residual is one that rounding explains.
    """

    first: int
    last: int
    pairs: int
    lr: Estimate = NO_ESTIMATE
    weight_decay: Estimate = NO_ESTIMATE
    momentum: Estimate = NO_ESTIMATE
    declared: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    changed: tuple[str, ...] = ()
    possible: tuple[tuple[str, ...], ...] = ()
    form: str = ""
    residual: float = math.nan
    before: float = math.nan
    explains: bool = False
