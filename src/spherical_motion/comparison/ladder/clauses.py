"""What is said beside a verdict: where the group will rest, and what happened to the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from spherical_motion.comparison.evidence import Evidence, Predicted
from spherical_motion.comparison.ladder.radial_law import STALE
from spherical_motion.comparison.ladder.reasons import AngleReason, BesideReason
from spherical_motion.comparison.ladder.said import percent, steps_text
from spherical_motion.vocabulary import Reason, VerdictKind

WORTH = 0.10
"""The pull is said where it differs from weight decay's own by this share."""

SURE = 1.0
"""A change between bursts is told if it is more than this many times as wide as its interval."""

UNDERWAY = (VerdictKind.APPROACHING, VerdictKind.IN_BALANCE, VerdictKind.OFF)


def where_it_rests(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """Norm and angle at rest under the measured pull, or that nothing holds the norm."""
    if kind not in UNDERWAY or not isinstance(e, Predicted) or e.rest is None:
        return
    pull, share = e.tug.pull, e.tug.decay_share.value
    if pull.high < 0:
        yield BesideReason.NO_REST(pull=pull.value)
    elif abs(share - 1.0) > WORTH and math.isfinite(e.rest.rest_norm):
        yield BesideReason.RESTS_AT(
            pull=pull.value, share=share, norm=e.rest.rest_norm, angle=e.rest.rest_angle
        )


def rested(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """The weights stood still for a stretch of the stage and moved again."""
    if e.laws.silence.rested is not None and not kind.meaning.alarm:
        first, again = e.laws.silence.rested
        yield BesideReason.RESTED(first=first, again=again)


def changed_between_bursts(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """The norm moves otherwise between the measured bursts than inside them."""
    gap = e.laws.continuity.gap
    sure = abs(gap.value) > SURE * (gap.high - gap.low)
    if sure and not kind.meaning.alarm:
        yield BesideReason.GAP(change=percent(gap.value), way="more" if gap.value > 0 else "less")


def gradient_changed(kind: VerdictKind, said: Sequence[Reason], e: Evidence) -> Iterator[Reason]:
    """Another size of the gradient in all groups at once, or one gradient used twice.

    Beside an alarm it is not said: its suspect would stand for the alarm's.
    """
    if kind.meaning.alarm:
        return
    if e.laws.scale_changes and not any(reason.kind is AngleReason.SCALED for reason in said):
        change = max(e.laws.scale_changes, key=lambda c: abs(math.log(c.factor)))
        yield BesideReason.SCALED_TOO(
            factor=change.factor, step=change.step, groups=change.groups, known=change.known
        )
    audited = e.laws.audited
    if audited.clipped_share > 0:
        yield BesideReason.NORM_CLIPPED(limit=audited.clipped_at, share=audited.clipped_share)
    if e.laws.stale.share > STALE:
        found = e.laws.stale
        yield BesideReason.STALE(
            same=found.same, pairs=found.pairs, steps=steps_text(found.steps, found.same)
        )


def differing_settings(mixed: Sequence[tuple[float, float, float]]) -> tuple[Reason, ...]:
    """One reason that names the settings in which a group's members differ; none if they do not.

    >>> print(*differing_settings([(0.1, 0.0, 0.9), (0.1, 0.1, 0.9)]))
    . Members differ in weight decay (0, 0.1)
    """
    names = ("learning rate", "weight decay", "momentum")
    found = [sorted(set(column)) for column in zip(*mixed, strict=True)]
    differing = [
        f"{name} ({', '.join(f'{value:g}' for value in values)})"
        for name, values in zip(names, found, strict=False)
        if len(values) > 1
    ]
    return (BesideReason.DIFFERING(settings=" and ".join(differing)),) if differing else ()
