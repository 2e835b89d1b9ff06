"""The account of a norm as it stands now: what pulled it in, what pushed it out, what it did.

Rates are relative changes of |w| in a step, averaged plainly over the steps: with growth = d ln|w|,
the readable law D/R = f(2ηp + sγ) says growth = D/(2Rfs) - ηp/s. So decay's rate is the mean of
ηλ/s, alike for all groups of equal settings, and growth is ln(|w_end|/|w_start|) over the steps.
What momentum carries over the ends of the window belongs to turning, so that the parts add up.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.forces import Forces
from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import Estimate, mean_ratio
from spherical_motion.records.written import WRITTEN
from spherical_motion.theory.late_pull import mean_pull
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary.hyperparameters import pull_scale

Array = NDArray[np.float64]

UNEXPLAINED = 0.1
"""Parts that miss the growth by more than this share of the largest of them do not explain it."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StepRates:
    """Relative changes of |w| at each step; arrays of shape (samples,), NaN where unknown.

    Attributes:
        decay, loss: by which weight decay and the loss shorten the weights; both NaN where they
            cannot be told apart.
        inward: the two together.
        change: by which the change of the preconditioner shortens them.
        missed: by how much the balance law misses: measured turning less what it should be.
    """

    decay: Array
    loss: Array
    inward: Array
    change: Array
    missed: Array


def step_rates(moved: Motion) -> StepRates:
    """The parts of the balance law at each sample, as rates of the norm."""
    # Decoupled decay shortens the weights by ηλ in a step, whatever momentum does: s without it.
    settings = Steps(moved.lr, np.zeros(len(moved)), moved.momentum, moved.hp.beta2)
    _, s = law_of_moves(moved).form(settings, theory.GroupFacts(correlation=moved.correlation))
    decay, pull = _pulls(moved)
    size = 2.0 * moved.gram.ww * moved.growth_share
    return StepRates(
        decay=moved.lr / s * decay,
        loss=moved.lr / s * (pull - decay),
        inward=moved.lr / s * pull,
        change=moved.change / size,
        missed=(moved.turned - moved.law) / size,
    )


def forces_of_window(moved: Motion, share: float) -> Forces:
    """The account of a window, or its growth alone where nothing else is known.

    Args:
        moved: samples of the window at which the optimizer moved the group.
        share: the share of all its samples that these are.
    """
    growth = growth_of(moved).value / 2.0
    if moved.prediction_error or not np.isfinite(moved.gram.wp).any():
        # Where the prediction is approximate, the loss's own pull is what it leaves out.
        return Forces(growth=growth)
    rates = step_rates(moved)

    def mean(part: Array) -> float:
        part = part[np.isfinite(part)]
        return share * float(part.mean()) if part.size else math.nan

    inward, change = mean(rates.inward), mean(rates.change)
    return Forces(
        inward=inward,
        decay=mean(rates.decay),
        loss=mean(rates.loss),
        turning=growth + inward + (0.0 if math.isnan(change) else change) + mean(rates.missed),
        change=change,
        growth=growth,
    )


def explains(forces: Forces) -> bool:
    """Whether the parts add up to the growth; True where it is not known that they do not."""
    largest = max((abs(rate) for rate in forces.known), default=0.0)
    return not abs(forces.unexplained) > UNEXPLAINED * largest


def pull_of(moved: Motion) -> tuple[Estimate, Estimate]:
    """(pull, weight decay's share of it), averages over the steps with weights η."""
    decay, pull = _pulls(moved)
    found = mean_pull(pull, moved.lr)
    own = mean_pull(np.where(np.isfinite(pull), decay, np.nan), moved.lr)
    return found, decay_share_of(own.value, found)


def growth_of(moved: Motion) -> Estimate:
    """Relative change of |w|² in a step: 2·ln(|w_end|/|w_start|) over the steps of the window.

    From sample to sample, so that the steps between samples count too. Where something else wrote
    the weights between steps, the window ends before the last step: that may be undone, too.
    """
    gram = moved.gram
    last = slice(0, 0) if (np.abs(moved.written) > WRITTEN).any() else slice(-1, None)
    ends = np.append(gram.ww, (gram.ww + 2.0 * gram.wd + gram.dd)[last])
    steps = np.append(moved.steps, moved.steps[last] + 1)
    return mean_ratio(np.diff(np.log(ends)), np.diff(steps).astype(np.float64))


def mended_by_change(moved: Motion) -> bool:
    """Whether the change of the preconditioner is all that the law leaves out."""
    law = law_of_moves(moved)
    return law.exact and law.changes


def why_inseparable(moved: Motion) -> str:
    """Why decay and loss have no parts of their own; empty if they have."""
    if hides_decay(moved):
        return f"{moved.optimizer} divides the sum of both by the size of the gradient"
    return ""


def law_of_moves(moved: Motion) -> theory.BalanceLaw:
    """The balance law of the rule that made these steps."""
    # A run that begins without momentum may be of a family with momentum.
    return theory.law_of(dataclasses.replace(moved.hp, momentum=float(moved.momentum.max())))


def hides_decay(moved: Motion) -> bool:
    """Whether weight decay is divided by the size of the gradient, so that it has no own part."""
    decays = bool((moved.felt_decay > 0).any())
    return decays and not moved.hp.decoupled and law_of_moves(moved).preconditioned


def _pulls(moved: Motion) -> tuple[Array, Array]:
    """(weight decay, p = δ + cX/R) at each sample; decay is NaN where the loss hides it."""
    scale = pull_scale(moved.hp, moved.momentum)
    inner = scale * moved.gram.wp / moved.gram.ww
    if moved.hp.decoupled:
        return moved.felt_decay, moved.felt_decay + inner
    if hides_decay(moved):
        return np.full(moved.felt_decay.shape, np.nan), inner
    return moved.felt_decay * scale, inner


def decay_share_of(decay: float, pull: Estimate) -> Estimate:
    """λ/p; the end that belongs to a pull of 0 or less is infinite."""
    if not pull.value > 0 or math.isnan(decay):
        return Estimate()
    high = decay / pull.low if pull.low > 0 else math.inf
    return Estimate(
        decay / pull.value, decay / pull.high, math.nan if math.isnan(pull.low) else high
    )
