"""Rules that rest on the balance law: for groups of kind "plain", and a clause for all others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeGuard

from spherical_motion.comparison.balance import HIGH, LOW
from spherical_motion.comparison.evidence import Evidence, Measured, Predicted, TugOfWar
from spherical_motion.comparison.ladder.reasons import Because
from spherical_motion.comparison.motion import RESIDUAL_LIMIT
from spherical_motion.comparison.words import words_of
from spherical_motion.vocabulary import Reason, VerdictKind

VAGUE = 0.30
"""The reason warns of an interval that is wider than this."""

EXACT = 1e-3
"""An interval of the balance narrower than this is not given: the law is an identity there."""

AMPLIFIED = 5.0
"""From this amplification on the reason says that pull and growth cancel."""

EXPLAINED = (
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
        yield Because.SHORT_STAGE(steps=steps, momentum=tug.momentum, fewest=tug.fewest)


def in_balance(e: Evidence) -> Iterator[Reason]:
    """The law holds."""
    if _is_plain(e) and _holds(e):
        yield from _balance(e.tug)
        yield from _words(e.tug)


def off_balance(e: Evidence) -> Iterator[Reason]:
    """Something else wrote the weights, or an exact law fails, beyond its interval."""
    if not _is_plain(e):
        return
    balance = e.tug.balance
    if e.tug.written:
        yield _written(Because.WRITTEN, e.tug)
    elif e.tug.exact and not math.isnan(balance.low) and not balance.meets(LOW, HIGH):
        yield from _balance(e.tug)
        if e.residual > RESIDUAL_LIMIT:
            yield Because.LAW_BROKEN(residual=e.residual)


def no_prediction(e: Evidence) -> Iterator[Reason]:
    """The law says nothing, or too little."""
    if not _is_plain(e):
        return
    if e.tug.unknown:
        yield Because.NO_THEORY(why=e.tug.unknown.rstrip("."))
    else:
        yield from _balance(e.tug)
        if e.tug.mendable:
            yield Because.LEAVES_OUT_CHANGE(memory=e.tug.young)
        elif e.tug.balance.meets(LOW, HIGH) or math.isnan(e.tug.balance.low):
            yield Because.TOO_VAGUE()
        else:
            yield Because.NEGLECTS(neglects=e.tug.neglects)
    yield from _words(e.tug)


def balance_holds(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """What explains a group whose own law fails: the balance law, if it holds."""
    if kind not in EXPLAINED or not isinstance(e, Measured) or not _holds(e):
        return
    error = abs(e.tug.balance.value - 1.0)
    if error > HIGH - 1.0:
        return
    error = max(error, 1e-3)
    yield Because.BALANCE_HOLDS(error=f"{error:.1%}", pull=e.tug.pull.value)


def written_too(e: Evidence) -> Iterator[Reason]:
    """That something wrote the weights of a certified group, which has rules of its own."""
    if isinstance(e, Measured) and e.group.kind != "plain" and e.tug.written:
        yield _written(Because.WRITTEN_TOO, e.tug)


def approximate(e: Evidence) -> Iterator[Reason]:
    """That the prediction is approximate, where there is one."""
    if not isinstance(e, Measured) or not e.prediction_error:
        return
    if isinstance(e, Predicted) or not math.isnan(e.tug.balance.value):
        yield Because.APPROXIMATE(
            correlation=e.correlation, bursts=e.bursts, factor=1.0 + e.prediction_error
        )


def _holds(e: Measured) -> bool:
    """Whether the balance law is known to hold: its interval meets 1, and chance is not why.

    The interval of an approximate prediction is wide for a reason that its own words give.
    """
    balance = e.tug.balance
    if e.tug.written:
        return False
    clear = bool(e.prediction_error) or balance.high - balance.low <= VAGUE
    return balance.meets(LOW, HIGH) and clear


def _is_plain(e: Evidence) -> TypeGuard[Measured]:
    """Whether the weights moved, and no symmetry is claimed of them."""
    return isinstance(e, Measured) and e.group.kind == "plain"


def _words(tug: TugOfWar) -> Iterator[Reason]:
    """What moves the norm, where that is known; else which steps were left out."""
    if not math.isnan(tug.forces.inward):
        yield Because.WORDS(words=words_of(tug).rstrip("."))
    elif tug.idle > 0:
        yield Because.IDLE(idle=tug.idle)


def _written(kind: Because, tug: TugOfWar) -> Reason:
    size = 100.0 * tug.write
    write = f"{size:+.2g}%" if abs(size) < 99.5 else f"{size:+,.0f}%"
    return kind(written=tug.written, pairs=tug.pairs, write=write)


def _balance(tug: TugOfWar) -> Iterator[Reason]:
    """The balance with its interval, and what makes it uncertain."""
    yield Because.BALANCE(balance=tug.balance.value)
    if tug.balance.high - tug.balance.low > EXACT:
        yield Because.BALANCE_INTERVAL(low=tug.balance.low, high=tug.balance.high)
    if tug.neglects and tug.amplification > AMPLIFIED:
        yield Because.AMPLIFIED(amplification=tug.amplification)
