"""Fourth rung: the gradient of a certified group has no part along the weights.

Where it has one, the cause is named by its evidence: what the audit saw in the norm layer, a share
of the weights that is the same at every step and in all groups, entries of one exact size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from spherical_motion.comparison.evidence import Evidence, Measured
from spherical_motion.comparison.ladder.reasons import RadialReason
from spherical_motion.comparison.ladder.said import layers_text, part_of
from spherical_motion.comparison.laws import AuditedSteps
from spherical_motion.comparison.laws.limits import (
    EPSILON_LARGE,
    EPSILON_SEEN,
    entries_clipped,
    left_in_eval_mode,
    norm_always_clipped,
)
from spherical_motion.comparison.laws.radial_law import LEAST_POWER
from spherical_motion.notices import listed
from spherical_motion.vocabulary import Reason

RADIAL_LIMIT = 0.10
"""A radial gradient of this share of weight decay's pull shifts the angle by 5%."""

DEFECT_LIMIT = 0.05
"""|cos(w, g)| above which an unproven group is called not scale-invariant."""

BEYOND_EPSILON = 30.0
"""A defect above this multiple of what ε explains has another cause."""

EPSILON_UNSEEN = 1e-3
"""Below this share it cannot be the cause."""

DECAY_SPREAD = 0.05
"""A part along the weights that differs by less than this from step to step is decay, whether or
not other groups have it, too: ε does not make one as steady."""

STALE_SHARE = 0.05
"""From this share of the steps on, gradients that were used again explain a radial part."""

OFTEN = 0.05
"""From this share of the steps on, weights that were put back explain a radial part."""

NEARLY_ALWAYS = 0.9
"""Decay hidden in the gradient points inward at this share of the steps, and more; and the gradient
of weights further up the loss points outward, by a part that differs from step to step."""


def gradient_altered(e: Evidence) -> Iterator[Reason]:
    """Decay hidden in the gradient, or its entries or norm clipped."""
    radial, audited = e.laws.radial, e.laws.audited
    if norm_always_clipped(audited):
        yield RadialReason.CLIPPED_NORM(limit=audited.clipped_at, share=audited.clipped_share)
    elif entries_clipped(audited):
        yield RadialReason.CLIPPED_ENTRIES(limit=audited.entries_at, share=audited.entries_share)
    elif isinstance(e, Measured) and e.group.kind == "scale" and e.group.proven and _hidden(e):
        alike = (
            f" (in {radial.agreeing + 1} of {radial.others + 1} groups)" if radial.others else ""
        )
        hp = e.stage.hp
        decay = math.nan if hp is None else hp.weight_decay
        yield RadialReason.HIDDEN_DECAY(kappa=radial.kappa.value, decay=decay, alike=alike)


def _hidden(e: Measured) -> bool:
    """Whether the gradient holds a decay of its own: the same share of w at every step."""
    if _stale(e):
        return False
    radial = e.laws.radial
    alone = radial.kappa.low > 0 and radial.spread < DECAY_SPREAD and not radial.power < LEAST_POWER
    beyond = radial.defect > BEYOND_EPSILON * radial.expected_defect
    return (radial.hidden or (alone and beyond)) and not radial.positive < NEARLY_ALWAYS


def _stale(e: Measured) -> bool:
    """Whether old gradients were used again: they are orthogonal to the weights of before."""
    return e.laws.stale.share > STALE_SHARE


def _put_back(e: Measured) -> bool:
    """Whether the weights were other ones when the gradient was made, at many of the steps."""
    found = e.laws.continuity
    return found.put_back > OFTEN * found.pairs and not _epsilon(e)


def in_eval_mode(e: Evidence) -> Iterator[Reason]:
    """A norm layer was seen in eval mode, however few samples there are."""
    if e.group.kind != "plain" and left_in_eval_mode(e.laws.audited):
        yield RadialReason.EVAL_MODE(named=_in_eval(e.laws.audited), share=e.laws.audited.eval_mode)


def epsilon_seen(e: Evidence) -> Iterator[Reason]:
    """ε was seen to be large in the norm layer, however few samples there are."""
    if e.laws.radial.epsilon >= EPSILON_LARGE:
        measured = tuple(epsilon_dominated(e))
        yield from measured or [_epsilon_large(e)]


def not_scale_invariant(e: Evidence) -> Iterator[Reason]:
    """No certificate, or a cause that is not known."""
    if not isinstance(e, Measured):
        return
    radial = e.laws.radial
    if e.group.kind == "plain":
        return
    if e.group.proven and _stale(e):
        if abs(e.radial_share) > RADIAL_LIMIT or e.defect > DEFECT_LIMIT:
            yield RadialReason.RADIAL_STALE(pull=part_of(e.radial_share), share=e.laws.stale.share)
    elif e.group.proven and _put_back(e):
        if abs(e.radial_share) > RADIAL_LIMIT or e.defect > DEFECT_LIMIT:
            found = e.laws.continuity
            yield RadialReason.RADIAL_PUT_BACK(
                share=part_of(e.radial_share), put_back=found.put_back, pairs=found.pairs
            )
    elif e.group.proven:
        if e.defect > max(DEFECT_LIMIT, BEYOND_EPSILON * e.expected_defect) and not _epsilon(e):
            yield RadialReason.INVARIANCE_LOST(defect=e.defect)
        elif (
            abs(e.radial_share) > RADIAL_LIMIT
            and radial.epsilon < EPSILON_UNSEEN
            and not radial.kappa.low <= 0.0 <= radial.kappa.high  # then it may be chance
        ):
            yield RadialReason.RADIAL_UNKNOWN(share=part_of(e.radial_share))
            if 1.0 - radial.positive >= NEARLY_ALWAYS and radial.spread > DECAY_SPREAD:
                yield RadialReason.RADIAL_OUTWARD(share=1.0 - radial.positive)
    elif e.defect > DEFECT_LIMIT or abs(e.radial_share) > RADIAL_LIMIT:
        yield RadialReason.NOT_CERTIFIED(defect=e.defect)


def epsilon_dominated(e: Evidence) -> Iterator[Reason]:
    """The norm layer's ε is large beside the variance of its input."""
    if not isinstance(e, Measured):
        return
    epsilon = e.laws.radial.epsilon
    radial = e.group.kind != "plain" and abs(e.radial_share) > RADIAL_LIMIT
    if radial and not epsilon < EPSILON_UNSEEN:
        kind = RadialReason.EPSILON_CANCELS if e.radial_share < 0 else RadialReason.EPSILON_ADDS
        yield kind(layers=layers_text(e.laws.audited.norms), share=part_of(e.radial_share))
        if math.isfinite(epsilon):
            yield RadialReason.EPSILON_SHARE(epsilon=epsilon)
    elif epsilon >= EPSILON_LARGE:
        yield _epsilon_large(e)


def _epsilon_large(e: Evidence) -> Reason:
    layers = layers_text(e.laws.audited.norms)
    return RadialReason.EPSILON_LARGE(layers=layers, epsilon=e.laws.radial.epsilon)


def _in_eval(audited: AuditedSteps) -> str:
    """The norm layers that may be in eval mode, in brackets; empty if they are not known."""
    names = audited.in_eval
    if not names:
        return ""
    return f" ({names[0]})" if len(names) == 1 else f" (one or more of {listed(names)})"


def _epsilon(e: Measured) -> bool:
    """Whether ε was seen at work in the norm layer."""
    return e.laws.radial.epsilon >= EPSILON_SEEN
