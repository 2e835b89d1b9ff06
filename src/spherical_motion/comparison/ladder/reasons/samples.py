"""Reasons: whether there are enough samples, and whether they are finite."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect


@enum.unique
class SampleReason(ReasonKind):
    """Whether there are enough samples, and whether they are finite."""

    FEW_SAMPLES = "{samples} sampled steps in this stage; at least {fewest} are needed"
    FEW_GRADIENTS = (
        "{samples:,} steps were sampled, but a gradient at only {driven:,} of them: is it cleared "
        "before optimizer.step() has returned?",
        Suspect.GRADIENT_CLEARED,
    )
    SHORT_STAGE = (
        "{steps:,} steps; with momentum {momentum:g} the balance law needs at least {fewest:,}",
        Suspect.SHORT_STAGE,
    )
    SHORT_WINDOW = (
        "the judged steps span {steps:,.0f}; with momentum {momentum:g} neighbouring steps are "
        "alike, and it takes at least {fewest:,.0f} of them"
    )
    TOO_WIDE = (
        "the 95% interval of measured over predicted angle, {low:.2f} to {high:.2f}, is too wide "
        "to say whether it lies within {least:.2f} to {most:.2f}"
    )
    NO_INTERVAL = (
        "{judged} judged steps give measured over predicted angle ({ratio:.2f}) no 95% interval"
    )
    BALANCE_TOO_WIDE = (
        "the 95% interval of the balance, {low:.2f} to {high:.2f}, is too wide to say whether it "
        "lies within {least:.2f} to {most:.2f}"
    )
    NON_FINITE_ONCE = (
        "weights or gradient were NaN or infinite at 1 step of this stage",
        Suspect.NON_FINITE,
    )
    NON_FINITE = (
        "weights or gradient were NaN or infinite at {steps:,} steps of this stage",
        Suspect.NON_FINITE,
    )
    FIRST_AT = ", first at step {first:,}"
