"""The kinds of reasons that the rules give, with the words of each. Nothing parses these words."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from spherical_motion.vocabulary import Reason, ReasonKind, Suspect

_EPSILON = "invariant but for its norm layer's ε: the layer's input is so small that ε "


@enum.unique
class Because(ReasonKind):
    """Main clauses first; those that begin with punctuation continue the one before."""

    FEW_SAMPLES = "{samples} sampled steps in this stage; at least {fewest} are needed"
    FEW_GRADIENTS = (
        "{samples:,} steps were sampled, but a gradient at only {driven:,} of them: is it cleared "
        "before optimizer.step() has returned?",
        Suspect.GRADIENT_CLEARED,
    )
    NON_FINITE_ONCE = "weights or gradient were NaN or infinite at 1 step of this stage"
    NON_FINITE = "weights or gradient were NaN or infinite at {steps:,} steps of this stage"
    FIRST_AT = ", first at step {step:,}"
    RATE_ZERO = "no sampled step changed the weights: the learning rate is 0", Suspect.RATE_ZERO
    NO_MOTION = (
        "no sampled step changed the weights: they have no gradient or no optimizer",
        Suspect.NO_GRADIENT,
    )
    NO_DECAY = (
        "without weight decay there is no equilibrium: nothing holds the norm "
        "({change:+.1f}% in this stage), and the angle shrinks as it grows"
    )
    INVARIANCE_LOST = (
        "it was proven invariant when the run began, but now the gradient has a radial part "
        "(cosine {defect:.2g}), far more than the norm layer's ε explains: is that layer in eval "
        "mode, or was the model changed?"
    )
    NOT_CERTIFIED = (
        "the gradient is not orthogonal to the weights (cosine {defect:.2g}), and no certificate "
        "says that it should be",
        Suspect.NOT_CERTIFIED,
    )
    EPSILON_CANCELS = _EPSILON + "cancels {share:.0%} of weight decay's pull", Suspect.EPSILON
    EPSILON_ADDS = _EPSILON + "adds {share:.0%} to weight decay's pull", Suspect.EPSILON
    NO_THEORY = "{why}"
    OUT_OF_RANGE = "at step {step:,} the optimizer had settings outside the range of any theory"

    FOLLOWS_FORECAST = (
        "the settings vary, so the equilibrium itself moves; the angle follows the forecast "
        "(measured/forecast {ratio:.2f})"
    )
    ON_THE_WAY = "forecast at {forecast:.2f} of equilibrium by now, measured {measured:.2f}"
    FADES = "; the gradient fades (its square × {change:.2g} in this stage), so the norm shrinks"
    NO_END = "; too little gradient is left to say when it will arrive"
    SETTLED_OTHERWISE = "; apart from that it is settled"
    STEPS_LEFT = "; about {steps:,.0f} more steps to within 5%"
    STEP_LEFT = "; about 1 more step to within 5%"
    ONCE_STEADY = ", once it has stopped fading"

    RATIO = "turns at {ratio:.2f} of the predicted angle"
    FORECAST_RATIO = "turns at {ratio:.2f} of the forecast"
    INTERVAL = " (95% interval {low:.2f} to {high:.2f})"
    VAGUE = "; too few independent steps for a narrower interval"
    UNEVEN = "; the steps are uneven, the plain mean is only {mean_ratio:.2f}"
    HEAVY_TAILED = (
        "steps and norm balance (√(mean D/mean R) at {step_law:.2f} of its law), but the RMS angle "
        "is at {ratio:.2f} and the mean at {mean_ratio:.2f}: a few large gradients carry most of "
        "the motion",
        Suspect.HEAVY_TAILS,
    )

    NO_MOTION_FORECAST = "measured {angle:.3g} rad a step, but no motion was forecast"
    LAW_BROKEN = (
        ": the steps break the law of motion (residual {residual:.2g}), so something beside this "
        "optimizer writes the weights, skips steps or clips single entries",
        Suspect.WEIGHTS_WRITTEN,
    )
    MIXED = ": its members do not share one setting", Suspect.MIXED_SETTINGS
    EPSILON = ": its norm layer's ε changes decay's pull by {share:+.0%}", Suspect.EPSILON
    UNEVEN_ENTRIES = (
        ": the prediction takes the entries of the gradient to be alike, since the records hold "
        "only their sum of squares; where they differ the angle does too",
        Suspect.UNEVEN_ENTRIES,
    )
    FADED = ": the gradient faded (its square × {change:.2g} in this stage)", Suspect.FADING
    NORM_MOVED = ": its norm moved by {drift:+.0%} while it was judged", Suspect.MOVING_NORM
    UNEXPLAINED = ": the norm is at rest; the records do not show the cause"
    GRADIENT_CHANGED = (
        ": each step obeys the law of motion and the norm is at rest, so the gradient's size must "
        "have changed within the stage",
        Suspect.GRADIENT_SCALE,
    )
    DIFFERING = ". Members differ in {settings}"

    BALANCE = "turns at {balance:.3f} of the angle that pull and growth of the norm give"
    BALANCE_INTERVAL = " (95% interval {low:.3f} to {high:.3f})"
    AMPLIFIED = "; pull and growth nearly cancel, which magnifies every error {amplification:.0f} ×"
    APPROXIMATE = (
        ". The prediction is approximate: it rests on the measured correlation of the updates "
        "(c = {correlation:.3g}, {bursts:,} bursts) and is good to a factor of {factor:.2g}"
    )
    TOO_VAGUE = "; the interval is too wide to say whether the law holds"
    NEGLECTS = "; the law leaves out {neglects}"
    LEAVES_OUT_CHANGE = (
        "; the law leaves out the change of the preconditioner (large in the first 1/(1 - β2) = "
        "{memory:,.0f} steps and where gradients fade). products=8 measures it"
    )
    SHORT_STAGE = (
        "{steps:,} steps; with momentum {momentum:g} the balance law needs at least {fewest:,}"
    )
    WRITTEN = (
        "the weights were written between steps, at {written:,} of {pairs:,} steps, by "
        "{write} of the norm each",
        Suspect.WEIGHTS_WRITTEN,
    )
    WRITTEN_TOO = (
        ". Weights were written between steps, at {written:,} of {pairs:,} steps, by {write} "
        "of the norm each"
    )
    IDLE = ". No gradient in {idle:.0%} of the steps, which are left out"
    WORDS = ". {words}"
    BALANCE_HOLDS = (
        ". The balance law holds to {error}: with the measured pull of weight decay and loss "
        "({pull:.3g}) and the growth of the norm, the weights turn as they should"
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
    return (Because.DIFFERING(settings=" and ".join(differing)),) if differing else ()
