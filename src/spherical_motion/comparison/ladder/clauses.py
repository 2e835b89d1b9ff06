"""What is said beside a verdict: where the group will rest, and what happened to the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from spherical_motion.comparison.evidence import Evidence, Predicted, Rest
from spherical_motion.comparison.ladder.radial_law import STALE_SHARE
from spherical_motion.comparison.ladder.reasons import AngleReason, BesideReason
from spherical_motion.comparison.ladder.said import percent, steps_text
from spherical_motion.vocabulary import Reason, VerdictKind

SHARE_WORTH_SAYING = 0.10
"""Where it will rest is said if weight decay's share of the pull differs from 1 by this."""

GAP_IN_INTERVALS = 1.0
"""A change between bursts is told if it is more than this many times as wide as its interval."""

OTHER_SIZE = 2.0
"""A spike that leaves gradients larger or smaller by this factor has changed the training."""

NEAR = 5
"""A change of the gradient's size so many steps from a spike is the same event."""

UNDERWAY = (VerdictKind.APPROACHING, VerdictKind.IN_BALANCE, VerdictKind.OFF)

AT_REST = (*UNDERWAY, VerdictKind.IN_EQUILIBRIUM)
"""Verdicts that say where a group rests, or that it does."""


def where_it_rests(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """Norm and angle at rest under the measured pull, and weight decay's share of it."""
    if kind not in AT_REST or not isinstance(e, Predicted):
        return
    pull, share, rest = e.tug.pull, e.tug.decay_share, e.rest
    if pull.high < 0:
        if kind in UNDERWAY:
            yield BesideReason.NO_REST(pull=pull.value)
    elif kind in UNDERWAY and _pulled_elsewhere(rest, share.value):
        yield BesideReason.RESTS_AT(
            pull=pull.value, share=share.value, norm=rest.rest_norm, angle=rest.rest_angle
        )
    elif math.isfinite(share.value) and math.isfinite(share.high):
        yield BesideReason.DECAY_SHARE(share=share.value, low=share.low, high=share.high)
    elif math.isfinite(share.low):
        yield BesideReason.DECAY_SHARE_AT_LEAST(low=share.low)


def _pulled_elsewhere(rest: Rest | None, share: float) -> TypeGuard[Rest]:
    """Whether the place where the group will rest is known, and not that of decay alone."""
    return (
        rest is not None and abs(share - 1.0) > SHARE_WORTH_SAYING and math.isfinite(rest.rest_norm)
    )


def rested(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """The weights stood still for a stretch of the stage and moved again."""
    if e.laws.silence.rested is not None and not kind.meaning.alarm:
        first, again = e.laws.silence.rested
        yield BesideReason.RESTED(first=first, again=again)


def changed_between_bursts(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """The norm moves otherwise between the measured bursts than inside them."""
    gap = e.laws.continuity.gap
    sure = abs(gap.value) > GAP_IN_INTERVALS * (gap.high - gap.low)
    if sure and not kind.meaning.alarm:
        yield BesideReason.GAP(change=percent(gap.value), way="more" if gap.value > 0 else "less")


def spiked(kind: VerdictKind, said: Sequence[Reason], e: Evidence) -> Iterator[Reason]:
    """One gradient was many times as large as the others, and what that step did to the norm."""
    suspects = (reason.kind.suspect for reason in said if reason.kind.suspect)
    named = next(suspects, None)
    found = e.laws.spike
    if found is None or (kind.meaning.alarm if named is None else named.alarm):
        return
    if any(abs(change.step - found.step) <= NEAR for change in e.laws.scale_changes):
        return  # it stays as large in all groups alike
    yield BesideReason.SPIKE(
        first=found.step,
        factor=f"{float(f'{found.factor:.3g}'):,.10g}",
        most=f", the largest of {found.spikes:,} such times" if found.spikes > 1 else "",
        way="grew" if found.grown >= 0 else "shrank",
        grown=percent(abs(found.grown)),
    )
    if not 1.0 / OTHER_SIZE < found.left < OTHER_SIZE:
        yield BesideReason.SPIKE_LEFT(left=found.left)


def put_back(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """Something changed the weights between steps and put them back."""
    found = e.laws.continuity
    if found.put_back and not kind.meaning.alarm:
        yield BesideReason.PUT_BACK(
            put_back=found.put_back, pairs=found.pairs, rounded=percent(found.rounded)
        )


def decay_hidden_beside(kind: VerdictKind, e: Evidence) -> Iterator[Reason]:
    """Certified groups of the same optimizer hide a decay, which a plain one cannot show."""
    found = e.laws.hidden_beside
    if found is not None and not kind.meaning.alarm:
        yield BesideReason.HIDDEN_BESIDE(
            hidden=found.hidden, certified=found.certified, kappa=found.kappa
        )


def gradient_changed(kind: VerdictKind, said: Sequence[Reason], e: Evidence) -> Iterator[Reason]:
    """Another size of the gradient in all groups at once, or one gradient used twice.

    Beside an alarm it is not said: its suspect would stand for the alarm's.
    """
    if kind.meaning.alarm:
        return
    if e.laws.scale_changes and not any(reason.kind is AngleReason.SCALED for reason in said):
        change = max(e.laws.scale_changes, key=lambda c: abs(math.log(c.factor)))
        yield BesideReason.SCALED(
            factor=change.factor, step=change.step, groups=change.groups, known=change.known
        )
    audited = e.laws.audited
    if audited.clipped_share > 0:
        yield BesideReason.NORM_CLIPPED(limit=audited.clipped_at, share=audited.clipped_share)
    if e.laws.stale.share > STALE_SHARE:
        found = e.laws.stale
        yield BesideReason.STALE(
            same=found.same,
            pairs=found.pairs,
            share=found.share,
            steps=steps_text(found.steps, found.same),
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
