"""The balance law of one group: over a stage as evidence, along the run as curves.

The law holds from step to step for every weight, at rest or not, so all that a window, a schedule
or a burst of samples needs is a sum of `theory.balance_steps` over the steps whose predecessor is
on record. Each step has its boundary term in it, so the residuals of single steps do not telescope,
and batch means give their error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion import theory
from spherical_motion.comparison.evidence import NO_FORCES, Forces, TugOfWar
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.statistics import Estimate, around, mean_ratio, root_mean_ratio
from spherical_motion.vocabulary import Stage
from spherical_motion.vocabulary.hyperparameters import pull_scale

Array = NDArray[np.float64]
Mixed = Sequence[tuple[float, float, float]]

STARTING_MEMORIES = 5
"""A stage's first steps are left out, this many times 1/(1 - α) of them."""

FEWEST_TERMS = 10
"""Fewer terms than this have no interval."""

NEGLECTED = 8.0
"""Times the weight of the newest gradient in v̂: the change of the preconditioner, as a share of the
largest term of the law. With it the intervals of 98 of 100 matrices of `benchmarks/balance` held 1;
in half of all windows it is below 4."""

FASTEST = 0.2
"""1 - β2 over 1 - β1 above which the change of the preconditioner must be measured. At β2 = .95 it
is 14 to 43% of the law on real networks, at .99 it is 1 to 2%."""


def balance_window(here: Motion, stage: Stage) -> Motion:
    """The samples of a stage whose balance is judged: all legal ones but those of its start."""
    here = here[~here.illegal]
    if not len(here):
        return here
    memory = STARTING_MEMORIES / (1.0 - _momentum(here))
    return here.within(stage.start + memory, stage.stop)


def tug_of_war(motion: Motion, stage: Stage, mixed: Mixed = ()) -> TugOfWar:
    """The balance law of a group over one stage, without the stage's first steps.

    Args:
        motion: the group's whole run.
        stage: the steps to judge.
        mixed: the distinct (lr, weight_decay, momentum) of the group's members, if several.
    """
    here = balance_window(motion.within(stage.start, stage.stop), stage)
    if unknown := motion.no_balance or _members_differ(mixed):
        return TugOfWar(unknown=unknown)
    known = here[np.isfinite(here.turned) & np.isfinite(here.loss)]
    if not len(here):
        return TugOfWar(unknown="no lawful step is on record after the stage's start")
    found = theory.balance(
        here.hp,
        here.gram,
        steps=here.steps,
        lr=here.lr,
        weight_decay=here.felt_decay,
        momentum=here.momentum,
        correlation=motion.correlation,
    )
    unknown = found.unknown or _why_unsure(known)
    pull = _pull(known)
    return TugOfWar(
        balance=Estimate() if unknown else _balance(known, found),
        pull=pull,
        decay_share=_decay_share(found.decay, pull),
        growth=_growth(here),
        amplification=found.amplification,
        # Where the prediction is approximate, the loss's own pull is what it leaves out.
        forces=NO_FORCES if motion.prediction_error else _forces(known),
        terms=len(known),
        unknown=unknown,
        neglects=found.neglects,
        inseparable=_why_inseparable(known),
    )


def _balance(known: Motion, found: theory.Balance) -> Estimate:
    """The ratio, its interval from batch means, and in it the size of what the law leaves out."""
    balance = around(found.ratio, root_mean_ratio(known.turned, known.law))
    balance = balance.widened(known.prediction_error)
    if not found.neglects or not np.isnan(known.change).all():
        return balance
    share = NEGLECTED * _newest_weight(known) * found.amplification
    reach = found.ratio * share / 2.0  # the ratio is a square root
    return Estimate(balance.value, max(balance.low - reach, 0.0), balance.high + reach)


def _newest_weight(known: Motion) -> float:
    """Mean weight of a step's own gradient in v̂: 1 - β2, and more while v̂ is young.

    Steps count from the start of the run; where the optimizer had run before, this is too large.
    """
    beta2 = known.hp.beta2
    if not beta2:
        return 0.0
    return float(((1.0 - beta2) / -np.expm1((known.steps + 1.0) * math.log(beta2))).mean())


def _why_unsure(known: Motion) -> str:
    """Why a balance that could be computed says nothing; empty if it does."""
    if len(known) < FEWEST_TERMS:
        return f"{len(known)} steps with their predecessors are too few for an interval"
    forgets, beta2 = 1.0 - _momentum(known), known.hp.beta2
    if beta2 is None or not np.isnan(known.change).all() or 1.0 - beta2 <= FASTEST * forgets:
        return ""
    return (
        f"with β2 = {beta2:g} the preconditioner changes while the momentum lasts, and its change "
        "was not measured (record with products=8)"
    )


def _momentum(here: Motion) -> float:
    return float(here.momentum.max())


def _members_differ(mixed: Mixed) -> str:
    """Why the settings of one member do not stand for all; empty if they do.

    Different weight decay is no obstacle: `Motion.felt_decay` is its mean, and decay through the
    gradient is in each member's <w, Px>.
    """
    if not mixed:
        return ""
    rates, _, momenta = (len(set(column)) for column in zip(*mixed, strict=True))
    same = rates == momenta == 1
    return "" if same else "the members of this group have different rates or momenta"


def _why_inseparable(known: Motion) -> str:
    """Why decay and loss have no parts of their own; empty if they have."""
    if np.isnan(known.decay).any():
        return "Adam divides the sum of both by the size of the gradient"
    return ""


def _forces(known: Motion) -> Forces:
    """The law as rates of the norm: divided by 2R and by the weight that growth has in it."""
    if not len(known):
        return NO_FORCES
    size = 2.0 * known.gram.ww.mean()

    def rate(part: Array) -> float:
        return float((part / known.growth_share).mean() / size)

    told_apart = bool(np.isfinite(known.decay).all())
    return Forces(
        inward=rate(known.loss + np.where(np.isfinite(known.decay), known.decay, 0.0)),
        decay=rate(known.decay) if told_apart else math.nan,
        loss=rate(known.loss) if told_apart else math.nan,
        turning=rate(known.turned),
        change=rate(known.change),
        growth=rate(known.grown),
    )


def _pull(known: Motion) -> Estimate:
    """p = δ + cΣηX/ΣηR."""
    scale = pull_scale(known.hp, known.momentum)
    decoupled = known.felt_decay if known.hp.decoupled else 0.0
    inward = decoupled * known.gram.ww + scale * known.gram.wp
    return mean_ratio(known.lr * inward, known.lr * known.gram.ww)


def _decay_share(decay: float, pull: Estimate) -> Estimate:
    """λ/p; the end that belongs to a pull of 0 or less is infinite."""
    if not pull.value > 0 or math.isnan(decay):
        return Estimate()
    high = decay / pull.low if pull.low > 0 else math.inf
    return Estimate(
        decay / pull.value, decay / pull.high, math.nan if math.isnan(pull.low) else high
    )


def _growth(here: Motion) -> Estimate:
    """ΔR/R a step, from sample to sample, so that gaps between samples count too."""
    squares, spans = here.gram.ww, np.diff(here.steps)
    return mean_ratio(np.diff(squares), (squares[:-1] + squares[1:]) / 2.0 * spans)
