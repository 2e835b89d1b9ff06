"""Reasons: steps that are not those of the rule and its settings."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect


@enum.unique
class StepReason(ReasonKind):
    """Steps that are not those of the rule and its settings."""

    OTHER_SETTINGS = (
        "the steps from {first:,} to {last:,} are those of {real} (declared: {declared}); with "
        "that the law of motion holds to {residual:.1g}",
        Suspect.WRONG_SETTINGS,
    )
    OTHER_FORM = (
        "the steps from {first:,} to {last:,} are those of {form}, not of the rule that was "
        "recorded; with that the law of motion holds to {residual:.1g}",
        Suspect.STEP_DIFFERS,
    )
    NO_SETTINGS = (
        "from step {first:,} to {last:,} the steps break the law of motion (residual "
        "{residual:.2g}; rounding explains {allowed:.1g}), and no other settings explain them",
        Suspect.STEP_DIFFERS,
    )
    TOO_FEW_TO_FIT = (
        "from step {first:,} to {last:,} the steps break the law of motion (residual "
        "{residual:.2g}; rounding explains {allowed:.1g}). These are too few steps to fit settings",
        Suspect.STEP_DIFFERS,
    )
    SPIKES = (
        "single steps break the law of motion: {steps} ({spikes:,} of {pairs:,}), by up to "
        "{worst:.2g} of its largest term",
        Suspect.STEP_DIFFERS,
    )
    MENDED = (
        "the balance law misses ({before:.2f} of the predicted turning) and {real} would mend it "
        "(declared: {declared})",
        Suspect.WRONG_SETTINGS,
    )
    OR_ELSE = "; so would {others}"
    AUDIT_SETTINGS = (
        "{differing} of {replayed} replayed steps, the first at {first:,}, are those of {real} "
        "(declared: {declared})",
        Suspect.WRONG_SETTINGS,
    )
    AUDIT_RATE = (
        "{differing} of {replayed} replayed steps, the first at {first:,}, are {factor:.4g} times "
        "as long as the rule of the optimizer makes them at learning rate {lr:.3g}, in the same "
        "direction",
        Suspect.WRONG_SETTINGS,
    )
    AUDIT_DECAY = (
        "{differing} of {replayed} replayed steps, the first at {first:,}, are those of the rule "
        "but for a part along the weights, {pull:.2g} of them in each step, as other weight decay "
        "makes",
        Suspect.WRONG_SETTINGS,
    )
    AUDIT_DIFFERS = (
        "{differing} of {replayed} replayed steps, the first at {first:,}, are not those of the "
        "optimizer's rule: {length:.3g} times its length, cosine {cosine:.4g}, and no other rate "
        "or weight decay explains them",
        Suspect.STEP_DIFFERS,
    )
    ONSET = "; step {before:,} was still the rule's"
    MOVED_OTHERWISE = "; the law of motion does not hold from step {since:,} on"
    REPLAYED_OTHERWISE = "; of the replayed steps, the first that is not the rule's is {since:,}"
    REWRITTEN = "; from step {since:,} on the optimizer's step changes the gradient itself"
    MISCOUNTED = (
        "the optimizer counts {counter:,.0f} steps where it took {taken:,.0f}, first seen at step "
        "{first:,}: its bias correction is that of another step",
        Suspect.STEP_COUNTER,
    )
    LOST = (
        "rounding to the dtype of the weights loses {lost:.0%} of the steps: their entries are "
        "below the spacing of the weights",
        Suspect.LOST_PRECISION,
    )
    NOT_AS_PLANNED = (
        "the learning rate is not the planned one from step {first:,} on: {used} in place of "
        "{planned}{at}{how}",
        Suspect.WRONG_SETTINGS,
    )
