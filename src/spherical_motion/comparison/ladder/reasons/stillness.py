"""Reasons: weights that do not move, or that nobody steps."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect


@enum.unique
class StillReason(ReasonKind):
    """Weights that do not move, or that nobody steps."""

    RATE_ZERO = "no sampled step changed the weights: the learning rate is 0", Suspect.RATE_ZERO
    NO_MOTION = (
        "no sampled step changed the weights: they have no gradient or no optimizer",
        Suspect.NO_GRADIENT,
    )
    NO_GRADIENT = "no gradient from step {first:,} on ({absent})", Suspect.NO_GRADIENT
    DEAD_PART = (
        "its gradient is 0 from step {first:,} on, while other parts of the same tensor have one",
        Suspect.DEAD_PART,
    )
    ALL_DEAD = (
        "no gradient from step {first:,} on, as in all groups: the loss has become flat (it is 0, "
        "or all units have died)",
        Suspect.FADING,
    )
    STOPPED = (
        "the weights have not moved since step {first:,}, although the learning rate is not 0",
        Suspect.FROZEN,
    )
    NEVER_MOVED = (
        "no sampled step changed the weights, although they have a gradient and the learning rate "
        "is not 0",
        Suspect.FROZEN,
    )
    LEFT_BEHIND = (
        "since step {first:,} the optimizer does not step these weights any more: {why}",
        Suspect.NOT_STEPPED,
    )
    REPLACED = (
        "since step {first:,} the model has another tensor in the place of the one that is watched "
        "and stepped",
        Suspect.NOT_STEPPED,
    )
