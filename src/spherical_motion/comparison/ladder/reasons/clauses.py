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
    SCALED = (
        ". Its gradient's size changed × {factor:.3g} at step {step:,}, as in {groups} of {known} "
        "groups",
        Suspect.GRADIENT_SCALE,
    )
    SCALED_AT_ALL = (
        "the gradient's size changed × {factor:.3g} at step {step:,} in {groups} of {known} groups "
        "at once, as with another loss scale or batch size."
    )
    HIDDEN_BESIDE = (
        ". The gradients of {hidden} of {certified} certified groups of this optimizer hide a "
        "weight decay of {kappa:.3g}, and so does this one, most likely: no law tells it there "
        "from the loss's own pull"
    )
    PUT_BACK = (
        ". Before {put_back:,} of {pairs:,} steps something changed the weights and put them back "
        "up to rounding ({rounded} of the norm), as SAM or an evaluation with other weights does",
        Suspect.WEIGHTS_PUT_BACK,
    )
    SPIKE = (
        ". At step {first:,} the gradient was {factor} times as large as before it{most}, and in "
        "one step the norm {way} by {grown}",
        Suspect.GRADIENT_SPIKE,
    )
    SPIKE_LEFT = ". After it the gradient was {left:.3g} times as large as before"
    NORM_CLIPPED = (
        ". The gradient's global norm is clipped in {share:.0%} of the audited steps",
        Suspect.NORM_CLIPPED,
    )
    CLIPPED_AT_ALL = (
        "the global norm of the gradient is clipped at {limit:.3g} in {share:.0%} of the audited "
        "steps."
    )
    GAP = (
        ". Between the measured bursts its norm grows by {change} a step {way} than inside them, "
        "so something may write the weights there"
    )
    STALE = (
        ". {same:,} of {pairs:,} steps used the gradient of the step before again, first at "
        "{steps}",
        Suspect.STALE_GRADIENT,
    )
    DECAY_SHARE = ". Weight decay is {share:.0%} of the pull ({low:.0%} to {high:.0%})"
    DECAY_SHARE_AT_LEAST = ". Weight decay is at least {low:.0%} of the pull"
    DIFFERING = ". Members differ in {settings}"
