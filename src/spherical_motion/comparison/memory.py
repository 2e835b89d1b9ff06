"""How strongly a group's updates remember each other, from the bursts on record.

An optimizer with decoupled decay and a rule without closed form turns its weights by
angle² = (2ηλ + growth)/c. c comes from the recorded bursts. What the law leaves out does not: the
part of the updates that points along the weights because the loss wants it so. On the networks of
docs/balance.md, trained by Muon, the measured angle was 0.6 to 1.2 times the law's.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from spherical_motion import theory
from spherical_motion.records import Records

METHOD_ERROR = 0.6
"""The law's own error, a share of the angle: the largest found on real networks, where the measured
angle was 1/1.6 of the law's. It is no matter of chance, so more bursts do not make it smaller."""

SPREAD_UNKNOWN = 0.1
"""Relative spread of c between bursts where there is only one; 1 to 5% was found."""

EARLY = 2
"""A burst that begins earlier than this many times its lags is left out if there are others."""


@dataclasses.dataclass(frozen=True, slots=True)
class UpdateMemory:
    """The correlation sum of one group's updates over a run.

    Attributes:
        correlation: c = 1 + 2Σρ_k, the mean over the bursts.
        spread: standard deviation between bursts over the mean.
        bursts: how many bursts there are.
        lags: over how many steps they show it.
    """

    correlation: float
    spread: float
    bursts: int
    lags: int = 0

    @property
    def error(self) -> float:
        """Relative error of an angle that follows from c: half of c's own, and the method's."""
        return math.hypot(METHOD_ERROR, 0.5 * self.spread)


def memory_of(records: Records, group: str) -> UpdateMemory | None:
    """What the bursts of a group say; None if there are none."""
    series = records.correlations(group)
    # Training begins with gradients that agree from step to step.
    late = series.steps >= EARLY * (series.rho.shape[1] - 1) if len(series.steps) else []
    rows = series.rho[late] if np.any(late) else series.rho
    sums = [theory.largest_correlation_sum(rho[1:][np.isfinite(rho[1:])]) for rho in rows]
    if not sums:
        return None
    mean = float(np.mean(sums))
    spread = float(np.std(sums, ddof=1)) / mean if len(sums) > 1 else SPREAD_UNKNOWN
    return UpdateMemory(mean, spread, len(sums), series.rho.shape[1] - 1)
