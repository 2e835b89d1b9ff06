"""Reasons: the balance of pull, growth and turning."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind


@enum.unique
class BalanceReason(ReasonKind):
    """The balance of pull, growth and turning."""

    BALANCE = "turns at {balance:.3f} of the angle that pull and growth of the norm give"
    BALANCE_INTERVAL = " (95% interval {low:.3f} to {high:.3f})"
    AMPLIFIED = "; pull and growth nearly cancel, which magnifies every error {amplification:.0f} ×"
    APPROXIMATE = (
        ". The prediction is approximate: it rests on the measured correlation of the updates "
        "(c = {correlation:.3g}, {bursts:,} bursts) and is good to a factor of {factor:.2g}"
    )
    APPROXIMATE_MISSES = (
        ". The prediction is approximate: it rests on the measured correlation of the updates "
        "(c = {correlation:.3g}, {bursts:,} bursts), and misses by more than the factor of "
        "{factor:.2g} to which it is usually good"
    )
    TOO_VAGUE = "; the interval is too wide to say whether the law holds"
    NEGLECTS = "; the law leaves out {neglects}"
    LEAVES_OUT_CHANGE = (
        "; the law leaves out the change of the preconditioner (large in the first 1/(1 - β2) = "
        "{memory:,.0f} steps and where gradients fade). products=8 measures it"
    )
    IDLE = ". No gradient in {idle:.0%} of the steps, which are left out"
    WORDS = ". {words}"
    BALANCE_HOLDS = (
        ". The balance law holds to {error}: with the measured pull of weight decay and loss "
        "({pull:.3g}) and the growth of the norm, the weights turn as they should"
    )
