"""Last rung: the angle is the predicted one; if not, which assumption of the prediction fails.

Where all laws hold, another angle is no fault of the run. The prediction takes more for granted
than the laws do: gradients of neighbouring steps that do not correlate, entries alike in size, no
rare large gradients, a gradient whose size does not jump. The assumption that fails is named with
the number that the records give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from spherical_motion import theory
from spherical_motion.comparison.balance import HIGH, LOW
from spherical_motion.comparison.evidence import Evidence, Predicted, Settled
from spherical_motion.comparison.ladder.balance_law import holds
from spherical_motion.comparison.ladder.bands import Place, place
from spherical_motion.comparison.ladder.reasons import AngleReason
from spherical_motion.comparison.ladder.transient import FADED
from spherical_motion.comparison.motion import RESIDUAL_LIMIT
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import HyperParameters, Reason

DRIFT_LIMIT = 0.05
"""A relative change of the norm above this is named as the reason for another angle."""

UNEVEN_MEAN = 0.90
"""Below this share of the RMS angle, the reason gives the mean angle: the steps are uneven."""

FEWEST_PAIRS = 10
"""A law that held at fewer pairs of steps than this says nothing."""

TAILS_WITHIN = 0.10
"""√(mean D/mean R) must be this close to its law for large gradients to be the cause."""

NEARER_THAN_ONE = 0.5
"""... and nearer to it than this share of what the angle misses: a law that misses as much as the
angle does is no sign of large gradients."""

CAUSE_WITHIN = 0.10
"""A cause whose number gives the measured ratio to within this share explains it."""


def in_equilibrium(e: Evidence) -> Iterator[Reason]:
    """The interval lies inside the band, after all other rungs have held."""
    if isinstance(e, Settled) and place(e.ratio, 1.0 - e.band, 1.0 + e.band) is Place.INSIDE:
        yield from _ratio(AngleReason.RATIO, e.ratio)
        if e.mean_ratio < UNEVEN_MEAN * e.ratio.value:
            yield AngleReason.UNEVEN(mean_ratio=e.mean_ratio)


def another_angle(e: Evidence) -> Iterator[Reason]:
    """All laws that were tested hold, but the angle is another one."""
    if isinstance(e, Predicted) and _laws_hold(e):
        yield from _ratio(_of_what(e), e.ratio)
        yield _assumption(e) or _laws_hold_alone(e)


def off(e: Evidence) -> Iterator[Reason]:
    """The angle is another one, and no law could be tested."""
    if not isinstance(e, Predicted):
        return
    yield from _ratio(_of_what(e), e.ratio)
    if e.residual > RESIDUAL_LIMIT and not e.mixed:
        yield AngleReason.LAW_BROKEN(residual=e.residual)
    elif e.mixed:
        yield AngleReason.MIXED()
    else:
        yield _assumption(e) or AngleReason.UNEXPLAINED()


def _of_what(e: Predicted) -> AngleReason:
    return AngleReason.RATIO if isinstance(e, Settled) else AngleReason.FORECAST_RATIO


def _laws_hold(e: Predicted) -> bool:
    """Whether a law was tested and held; the rungs before have found none that failed."""
    step = e.laws.step
    if holds(e) or (step.pairs >= FEWEST_PAIRS and step.median <= RESIDUAL_LIMIT):
        return True
    # Optimizers without a law of motion are left with the norms between their steps.
    return not _has_law_of_motion(e) and e.laws.continuity.pairs >= FEWEST_PAIRS


def _has_law_of_motion(e: Predicted) -> bool:
    return e.stage.hp is None or theory.family_of(e.stage.hp).has_law_of_motion


def _assumption(e: Predicted) -> Reason | None:
    """The assumption that fails, the best-proven one first; None if no number shows one."""
    if e.laws.scale_changes:
        change = max(e.laws.scale_changes, key=lambda c: abs(math.log(c.factor)))
        return AngleReason.SCALED(
            factor=change.factor, step=change.step, groups=change.groups, known=change.known
        )
    if isinstance(e, Settled) and _balances(e.rest.step_law, e.ratio):
        return AngleReason.HEAVY_TAILED(step_law=e.rest.step_law.value, mean_ratio=e.mean_ratio)
    if (reason := _beyond_the_laws(e)) is not None:
        return reason
    if e.rest is not None and e.rest.drive_change < FADED:
        return AngleReason.FADED(change=e.rest.drive_change)
    return AngleReason.NORM_MOVED(drift=e.drift) if abs(e.drift) > DRIFT_LIMIT else None


def _beyond_the_laws(e: Predicted) -> Reason | None:
    """What the prediction of optimizers other than SGD takes for granted."""
    hp = e.stage.hp
    if hp is None:
        return None
    gives = math.sqrt(e.tug.pull.value / hp.weight_decay) if e.tug.pull.low > 0 else math.nan
    if hp.decoupled and _explains(gives, e.ratio):
        return AngleReason.METRIC_PULL(pull=gives * gives, gives=gives)
    family, assumed = theory.family_of(hp), e.laws.assumed
    entries = assumed.entries.value
    resting = isinstance(e, Settled)  # both say how the angle at rest changes
    if resting and entries > 0 and _explains(entries ** (1.0 / 3.0), e.ratio):
        return AngleReason.UNEVEN_ENTRIES(pull=entries, gives=entries ** (1.0 / 3.0))
    if resting and (_explains(assumed.angle, e.ratio) or _same_way(assumed.angle, e.ratio)):
        whole = _explains(assumed.angle, e.ratio)
        return (AngleReason.CORRELATED if whole else AngleReason.CORRELATED_PARTLY)(
            measured=assumed.measured,
            bursts=assumed.bursts,
            assumed=assumed.assumed,
            gives=assumed.angle,
        )
    if family.takes_entries_alike and math.isnan(entries):
        return AngleReason.UNEVEN_UNMEASURED()
    unmeasured = math.isfinite(assumed.assumed) and math.isnan(assumed.measured)
    if unmeasured and hp.decoupled and not family.has_law_of_motion:
        return AngleReason.CORRELATED_UNMEASURED(excess=e.ratio.value**-2)
    return None


def _explains(gives: float, ratio: Estimate) -> bool:
    """Whether a cause that gives this share of the predicted angle explains the measured one."""
    missed = abs(ratio.value / gives - 1.0) if gives > 0 else math.nan
    return missed < min(CAUSE_WITHIN, NEARER_THAN_ONE * abs(ratio.value - 1.0))


def _same_way(gives: float, ratio: Estimate) -> bool:
    """Whether a cause changes the angle, and in the measured direction."""
    return abs(gives - 1.0) > CAUSE_WITHIN and (gives > 1.0) == (ratio.value > 1.0)


def _laws_hold_alone(e: Predicted) -> Reason:
    """No cause is known; what was measured of the assumptions, or that it was not."""
    assumed, hp, pull = e.laws.assumed, e.stage.hp, e.tug.pull.value
    if math.isfinite(assumed.angle):
        return AngleReason.LAWS_HOLD_CORRELATION(
            measured=assumed.measured, bursts=assumed.bursts, assumed=assumed.assumed
        )
    if hp is not None and hp.weight_decay > 0 and pull > 0:
        gives, span = _pull_gives(e, hp), e.tug.pull
        if math.isnan(gives):
            return AngleReason.LAWS_HOLD_PULL_VAGUE(pull=pull, low=span.low, high=span.high)
        return AngleReason.LAWS_HOLD_PULL(pull=pull, gives=gives)
    why = e.tug.unknown or e.tug.inseparable or "the steps on record do not determine it"
    return AngleReason.LAWS_HOLD(why=why.rstrip("."))


def _pull_gives(e: Predicted, hp: HyperParameters) -> float:
    """The share of the predicted angle at rest that the measured pull gives."""
    if e.rest is not None and math.isfinite(e.rest.rest_angle):
        return e.rest.rest_angle / e.rest.equilibrium
    if theory.family_of(hp).takes_entries_alike:  # its pull is no multiple of the decay
        return math.nan
    return math.sqrt(e.tug.pull.value / hp.weight_decay)


def _balances(law: Estimate, ratio: Estimate) -> bool:
    """Whether steps and norm balance, so that only the mean over single angles differs."""
    nearer = abs(law.value - 1.0) < NEARER_THAN_ONE * abs(ratio.value - 1.0)
    return nearer and law.meets(LOW, HIGH) and abs(law.value - 1.0) < TAILS_WITHIN


def _ratio(kind: AngleReason, ratio: Estimate) -> Iterator[Reason]:
    """The ratio, with its interval if there is one."""
    yield kind(ratio=ratio.value)
    if not math.isnan(ratio.low):
        yield AngleReason.INTERVAL(low=ratio.low, high=ratio.high)
