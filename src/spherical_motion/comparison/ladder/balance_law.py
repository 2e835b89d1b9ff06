"""Fifth rung: pull and growth of the norm give the turning, for every weight, at rest or not.

It is the last law of groups of kind "plain". For certified ones it says where they will rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeGuard

from spherical_motion.comparison.balance import HIGH, LOW
from spherical_motion.comparison.evidence import (
    Evidence,
    Measured,
    Predicted,
)
from spherical_motion.comparison.forces import TugOfWar
from spherical_motion.comparison.ladder.bands import Place, place
from spherical_motion.comparison.ladder.reasons import BalanceReason, SampleReason, TransientReason
from spherical_motion.comparison.words import words_of
from spherical_motion.vocabulary import Reason, VerdictKind

WIDEST_INTERVAL = 0.30
"""An interval of a law that leaves something out says nothing if it is wider than this."""

INTERVAL_WORTH_SAYING = 1e-3
"""An interval of the balance narrower than this is not given: the law is an identity there."""

AMPLIFIED = 5.0
"""From this amplification on the reason says that pull and growth cancel."""

EXPLAINED_KINDS = (
    VerdictKind.NO_WEIGHT_DECAY,
    VerdictKind.NOT_SCALE_INVARIANT,
    VerdictKind.EPSILON_DOMINATED,
    VerdictKind.OFF,
)
"""Kinds to which the balance law adds an explanation where it holds."""


def short_stage(e: Evidence) -> Iterator[Reason]:
    """The stage is shorter than what momentum takes to play out."""
    if _is_plain(e) and e.tug.fewest and not e.non_finite:
        tug, steps = e.tug, e.stage.steps
        yield SampleReason.SHORT_STAGE(steps=steps, momentum=tug.momentum, fewest=tug.fewest)


def in_balance(e: Evidence) -> Iterator[Reason]:
    """The law holds."""
    if _is_plain(e) and holds(e):
        yield from _balance(e.tug)
        yield from _words(e.tug)


def off_balance(e: Evidence) -> Iterator[Reason]:
    """An exact law fails, beyond its interval."""
    if not isinstance(e, Measured) or not e.tug.exact or math.isnan(e.tug.balance.low):
        return
    if place(e.tug.balance, 1.0 - e.band, 1.0 + e.band) is Place.OUTSIDE:
        yield from _balance(e.tug)


def balance_too_wide(e: Evidence) -> Iterator[Reason]:
    """The interval of an exact law does not say whether it holds."""
    if not _is_plain(e) or not e.tug.exact or math.isnan(e.tug.balance.low):
        return
    low, high = 1.0 - e.band, 1.0 + e.band
    if place(e.tug.balance, low, high) is Place.UNCLEAR:
        balance = e.tug.balance
        yield SampleReason.BALANCE_TOO_WIDE(
            low=balance.low, high=balance.high, least=low, most=high
        )


def no_prediction(e: Evidence) -> Iterator[Reason]:
    """The law says nothing, or too little."""
    if not _is_plain(e):
        return
    if e.tug.unknown:
        yield TransientReason.NO_THEORY(why=e.tug.unknown.rstrip("."))
    else:
        yield from _balance(e.tug)
        if e.tug.mendable:
            yield BalanceReason.LEAVES_OUT_CHANGE(memory=e.tug.young)
        elif e.tug.balance.meets(LOW, HIGH) or math.isnan(e.tug.balance.low):
            yield BalanceReason.TOO_VAGUE()
        else:
            yield BalanceReason.NEGLECTS(neglects=e.tug.neglects)
    yield from _words(e.tug)


def balance_holds(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """What explains a group whose own law fails: the balance law, if it holds."""
    if kind not in EXPLAINED_KINDS or not isinstance(e, Measured) or not holds(e):
        return
    error = abs(e.tug.balance.value - 1.0)
    if error > HIGH - 1.0:
        return
    error = max(error, 1e-3)
    yield BalanceReason.BALANCE_HOLDS(error=f"{error:.1%}", pull=e.tug.pull.value)


def approximate(e: Evidence) -> Iterator[Reason]:
    """That the prediction is approximate, where there is one."""
    if not isinstance(e, Measured) or not e.prediction_error:
        return
    if isinstance(e, Predicted) or not math.isnan(e.tug.balance.value):
        found = e.ratio if isinstance(e, Predicted) and not _is_plain(e) else e.tug.balance
        misses = not math.isnan(found.low) and not found.meets(LOW, HIGH)
        yield (BalanceReason.APPROXIMATE_MISSES if misses else BalanceReason.APPROXIMATE)(
            correlation=e.correlation, bursts=e.bursts, factor=1.0 + e.prediction_error
        )


def holds(e: Measured) -> bool:
    """Whether the balance law is known to hold: its interval lies in the band.

    Where the law leaves something out, which widens the interval for a reason that more steps do
    not mend, it is enough that a narrow one meets 1.
    """
    balance = e.tug.balance
    if place(balance, 1.0 - e.band, 1.0 + e.band) is Place.INSIDE:
        return True
    if e.tug.exact:
        return False
    clear = bool(e.prediction_error) or balance.high - balance.low <= WIDEST_INTERVAL
    return balance.meets(LOW, HIGH) and clear


def _is_plain(e: Evidence) -> TypeGuard[Measured]:
    """Whether the weights moved, and no symmetry is claimed of them."""
    return isinstance(e, Measured) and e.group.kind == "plain"


def _words(tug: TugOfWar) -> Iterator[Reason]:
    """What moves the norm, where that is known; else which steps were left out."""
    if not math.isnan(tug.forces.inward):
        yield BalanceReason.WORDS(words=words_of(tug).rstrip("."))
    elif tug.idle > 0:
        yield BalanceReason.IDLE(idle=tug.idle)


def _balance(tug: TugOfWar) -> Iterator[Reason]:
    """The balance with its interval, and what makes it uncertain."""
    yield BalanceReason.BALANCE(balance=tug.balance.value)
    if tug.balance.high - tug.balance.low > INTERVAL_WORTH_SAYING:
        yield BalanceReason.BALANCE_INTERVAL(low=tug.balance.low, high=tug.balance.high)
    if tug.neglects and tug.amplification > AMPLIFIED:
        yield BalanceReason.AMPLIFIED(amplification=tug.amplification)
