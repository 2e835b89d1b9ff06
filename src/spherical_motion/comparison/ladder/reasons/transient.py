"""Reasons: no prediction, or a norm that is on its way to equilibrium."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind


@enum.unique
class TransientReason(ReasonKind):
    """No prediction, or a norm that is on its way to equilibrium."""

    NO_DECAY = (
        "without weight decay there is no equilibrium: nothing holds the norm "
        "({change:+.1f}% in this stage), and the angle shrinks as it grows"
    )
    NO_THEORY = "{why}"
    OUT_OF_RANGE = "at step {step:,} the optimizer had settings outside the range of any theory"
    TOO_SMALL = (
        "measured {angle:.2g} rad a step, below {floor:.0e}, where rounding of the weights decides"
    )
    NO_FORECAST = "measured {angle:.3g} rad a step; {why}"
    FOLLOWS_FORECAST = (
        "the settings vary, so the equilibrium itself moves; the angle follows the forecast "
        "(measured/forecast {ratio:.2f})"
    )
    ON_THE_WAY = (
        "forecast at {forecast:.2f} of equilibrium over the last {steps:,.0f} steps, measured at "
        "{measured:.2f}"
    )
    FADES = "; the gradient fades (its square × {change:.2g} in this stage), so the norm shrinks"
    NO_END = "; too little gradient is left to say when it will arrive"
    SETTLED_OTHERWISE = "; apart from that it is settled"
    STEPS_LEFT = "; about {steps:,.0f} more steps to within 5%"
    STEP_LEFT = "; about 1 more step to within 5%"
    MORE_TO_JUDGE = (
        "; it arrived at the stage's end, and about {steps:,.0f} more steps are needed to judge it"
    )
    STILL_CHANGING = "; at its latest gradient it has arrived, but the gradient still changes"
    ONCE_STEADY = ", once it has stopped fading"
