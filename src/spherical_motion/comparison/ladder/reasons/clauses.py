"""Reasons: what is said beside any verdict."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect


@enum.unique
class BesideReason(ReasonKind):
    """What is said beside any verdict."""

    RESTS_AT = (
        ". With the measured pull of weight decay and loss ({pull:.3g}, of which decay is "
        "{share:.0%}) it will rest at norm {norm:.3g}, turning {angle:.3g} rad a step"
    )
    NO_REST = (
        ". With the measured pull of weight decay and loss ({pull:.3g}) there is no equilibrium: "
        "the loss outweighs weight decay"
    )
    RESTED = (
        "; its weights did not move from step {first:,} to step {again:,}, although the learning "
        "rate was not 0"
    )
    SCALED_TOO = (
        ". The gradient's size changed × {factor:.3g} at step {step:,} in {groups} of {known} "
        "groups at once, as with another loss scale or batch size",
        Suspect.GRADIENT_SCALE,
    )
    SCALED_AT_ALL = (
        "the gradient's size changed × {factor:.3g} at step {step:,} in {groups} of {known} groups "
        "at once."
    )
    NORM_CLIPPED = (
        ". The global norm of the gradient is clipped at {limit:.3g} in {share:.0%} of the audited "
        "steps",
        Suspect.NORM_CLIPPED,
    )
    GAP = (
        ". Between the measured bursts its norm grows by {change} a step {way} than inside them, "
        "so something may write the weights there"
    )
    STALE = (
        ". {same:,} of {pairs:,} steps used the gradient of the step before them again, first at "
        "{steps}",
        Suspect.STALE_GRADIENT,
    )
    DIFFERING = ". Members differ in {settings}"
