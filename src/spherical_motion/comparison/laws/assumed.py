"""What the prediction of an angle takes for granted beyond the laws, beside what was measured.

Correlation. The prediction of AdamW and Lion takes the gradients of different steps to be
independent, so that only the optimizer's own memory correlates its updates, with the sum
c = 1 + 2Σρ_k. At rest the angle is proportional to 1/√c. Bursts measure c over as many lags as they
keep; longer lags are taken as assumed. A gradient orthogonal to the weights makes the angle differ
less than this says, since orthogonal steps undo each other over long lags. Under SGD with
<w, g> = 0 the angle does not depend on c at all, so nothing is asked there.

Entries. Adam with decay in the gradient divides the decay, too. The prediction divides by one size
for all entries, the RMS; then <w, Px> is λ|w|²/RMS. What is measured is q times that, and since
|w|³ at rest is proportional to 1/q, the angle is to q^⅓.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import NO_ESTIMATE, Estimate, slow_mean_ratio
from spherical_motion.theory.adaptive import lion_autocorrelation
from spherical_motion.vocabulary import HyperParameters, Stage

FADED_MEMORY = 1e-12
"""The memory of an optimizer is followed until it has faded to this."""

MOST_LAGS = 100_000
"""And no farther than this many steps."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """The assumptions of one group's predicted angle in one stage.

    Attributes:
        assumed: c that the prediction takes; NaN if it takes none or the measured one.
        measured: c that bursts measured; NaN without bursts.
        bursts: how many there are.
        angle: the share of the predicted angle that the measured c gives.
        entries: q, the pull of Adam's decay over what entries alike in size would give, with its
            interval; unknown for other optimizers, and where <w, Px> was not recorded.
    """

    assumed: float = math.nan
    measured: float = math.nan
    bursts: int = 0
    angle: float = math.nan
    entries: Estimate = NO_ESTIMATE


def assumed_of(motion: Motion, stage: Stage) -> Assumed:
    """What is known of the assumptions about a group in a stage with constant settings."""
    hp = stage.hp
    if hp is None or not motion.predictable or motion.group.kind == "plain":
        return Assumed()
    found = Assumed(entries=_entries(motion.within((stage.start + stage.stop) / 2, stage.stop), hp))
    family = theory.family_of(hp)
    if "correlation" in family.needs or family.has_law_of_motion or not family.decoupled:
        return found
    rho = update_correlations(hp)
    whole = theory.correlation_sum(rho)
    found = dataclasses.replace(found, assumed=whole)
    if motion.memory is None:
        return found
    seen = theory.correlation_sum(rho[: motion.memory.lags])
    real = whole + motion.memory.correlation - seen
    return dataclasses.replace(
        found,
        measured=real,
        bursts=motion.memory.bursts,
        angle=math.sqrt(whole / real) if real > 0.0 else math.nan,
    )


def update_correlations(hp: HyperParameters) -> NDArray[np.float64]:
    """ρ_1, ρ_2, ... of the updates that independent gradients give AdamW or Lion.

    >>> adamw = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.999))
    >>> round(theory.correlation_sum(update_correlations(adamw)), 6)  # (1 + β1)/(1 - β1)
    19.0
    """
    slowest = hp.beta2 if hp.optimizer == "lion" and hp.beta2 else hp.momentum
    if slowest <= 0.0:
        return np.zeros(1)
    lags = min(math.ceil(math.log(FADED_MEMORY) / math.log(slowest)), MOST_LAGS)
    if hp.optimizer == "lion":
        return lion_autocorrelation(hp.momentum, slowest, lags)
    return hp.momentum ** np.arange(1.0, lags + 1.0)


def _entries(late: Motion, hp: HyperParameters) -> Estimate:
    """q: the measured pull of decay over what it is if all entries are alike in size."""
    if not theory.family_of(hp).takes_entries_alike or not len(late):
        return NO_ESTIMATE
    gram = late.gram
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = late.weight_decay * gram.ww * np.sqrt(late.group.numel / gram.gg)
    known = np.isfinite(gram.wp) & np.isfinite(alike)
    return slow_mean_ratio(gram.wp[known], alike[known]) if known.any() else NO_ESTIMATE
