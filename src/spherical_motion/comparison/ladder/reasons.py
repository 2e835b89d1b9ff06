"""The kinds of reasons that the rungs give, with the words of each. Nothing parses these words."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from spherical_motion.vocabulary import Reason, ReasonKind, Suspect

_EPSILON = "invariant but for its norm layer's ε: the layer's input is so small that ε "


@enum.unique
class Because(ReasonKind):
    """Main clauses first; those that begin with punctuation continue the one before."""

    # Samples

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

    # Motion

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
    RESTED = (
        "; its weights did not move from step {first:,} to step {again:,}, although the learning "
        "rate was not 0"
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

    # Continuity

    WRITTEN = (
        "the weights were written between steps, at {steps} ({written:,} of {pairs:,}), by {write} "
        "of the norm each",
        Suspect.WEIGHTS_WRITTEN,
    )
    WRITTEN_AT_RESUME = (
        "where the run was resumed the norm differs by {write} from that after the step before, so "
        "other weights were loaded",
        Suspect.WEIGHTS_WRITTEN,
    )

    SECOND_OPTIMIZER = (
        "another optimizer ({name}) steps these weights as well, first seen at step {first:,}",
        Suspect.WEIGHTS_WRITTEN,
    )
    BY_ANOTHER = ". Another optimizer ({name}) steps them as well"

    # The step law

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

    # The radial law

    INVARIANCE_LOST = (
        "it was proven invariant when the run began, but now the gradient has a radial part "
        "(cosine {defect:.2g}), far more than the norm layer's ε explains. The cause is not known: "
        "was the model changed, or is a norm layer in eval mode?"
    )
    RADIAL_UNKNOWN = (
        "the gradient of this certified group has a part along the weights, {share} weight "
        "decay's pull. The cause is not known"
    )
    RADIAL_STALE = (
        "{same:.0%} of the steps used the gradient of the step before again, so it has a part "
        "along the weights of now, {share} weight decay's pull",
        Suspect.STALE_GRADIENT,
    )
    EVAL_MODE = (
        "a norm layer that these weights feed was in eval mode ({share:.0%} of the audited steps), "
        "so the loss depends on the size of the weights",
        Suspect.EVAL_MODE,
    )
    HIDDEN_DECAY = (
        "the gradient holds a weight decay of its own: along the weights it is {kappa:.3g}·w at "
        "every step, beside the optimizer's {decay:.3g}{alike}",
        Suspect.HIDDEN_DECAY,
    )
    CLIPPED_ENTRIES = (
        "entries of the gradient are clipped one by one: in {share:.0%} of the last audited steps "
        "several of them have exactly the size {limit:.4g}, the largest",
        Suspect.GRADIENT_CLIPPED,
    )
    CLIPPED_NORM = (
        "the global norm of the gradient is clipped at {limit:.3g} in {share:.0%} of the audited "
        "steps, so its size is the limit's and not the loss's",
        Suspect.GRADIENT_CLIPPED,
    )
    NOT_CERTIFIED = (
        "the gradient is not orthogonal to the weights (cosine {defect:.2g}), and no certificate "
        "says that it should be",
        Suspect.NOT_CERTIFIED,
    )
    EPSILON_CANCELS = _EPSILON + "works against weight decay with {share} its pull", Suspect.EPSILON
    EPSILON_ADDS = _EPSILON + "adds {share} weight decay's pull", Suspect.EPSILON
    EPSILON_SHARE = ". Measured in the norm layer, ε is {epsilon:.0%} of ε + variance"
    EPSILON_LARGE = (
        "in the norm layer that these weights feed, ε is {epsilon:.0%} of ε + variance, so the "
        "layer does not normalize",
        Suspect.EPSILON,
    )

    # No theory, no prediction

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

    # The transient

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
    RESTS_AT = (
        ". With the measured pull of weight decay and loss ({pull:.3g}, of which decay is "
        "{share:.0%}) it will rest at norm {norm:.3g}, turning {angle:.3g} rad a step"
    )
    NO_REST = (
        ". With the measured pull of weight decay and loss ({pull:.3g}) there is no equilibrium: "
        "the loss outweighs weight decay"
    )

    # The angle

    RATIO = "turns at {ratio:.2f} of the predicted angle"
    FORECAST_RATIO = "turns at {ratio:.2f} of the forecast"
    INTERVAL = " (95% interval {low:.2f} to {high:.2f})"
    UNEVEN = "; the steps are uneven, the plain mean is only {mean_ratio:.2f}"
    HEAVY_TAILED = (
        ": steps and norm balance (√(mean D/mean R) at {step_law:.2f} of its law), but the RMS "
        "angle does not and the mean is at {mean_ratio:.2f}: a few large gradients carry most of "
        "the motion",
        Suspect.HEAVY_TAILS,
    )
    CORRELATED = (
        ": every law that was tested holds, so its updates are correlated otherwise than the "
        "prediction takes them to be: their correlation sum is {excess:.2f} times the assumed one",
        Suspect.CORRELATED_GRADIENTS,
    )
    METRIC_PULL = (
        ": the optimizer scales the entries differently, so the loss has a part along the weights: "
        "the pull is {pull:.2f} times weight decay, which alone gives {gives:.2f}",
        Suspect.UNEVEN_ENTRIES,
    )
    UNEVEN_ENTRIES = (
        ": the prediction takes the entries of the gradient to be alike in size, since the records "
        "hold only their sum of squares; where they differ the angle does too",
        Suspect.UNEVEN_ENTRIES,
    )
    SCALED = (
        ": the gradient's size changed × {factor:.3g} at step {step:,} in {groups} of {known} "
        "groups at once, as with another loss scale or batch size",
        Suspect.GRADIENT_SCALE,
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
    SPIKE = (
        ". At step {first:,} the gradient was {factor} times as large as before it{most}, and in "
        "one step the norm {way} by {grown}",
        Suspect.GRADIENT_SPIKE,
    )
    SPIKE_LEFT = ". After it the gradient was {left:.3g} times as large as before"
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
    LAW_BROKEN = (
        ": the steps break the law of motion (residual {residual:.2g})",
        Suspect.STEP_DIFFERS,
    )
    MIXED = ": its members do not share one setting", Suspect.MIXED_SETTINGS
    FADED = ": the gradient faded (its square × {change:.2g} in this stage)", Suspect.FADING
    NORM_MOVED = ": its norm moved by {drift:+.0%} while it was judged", Suspect.MOVING_NORM
    UNEXPLAINED = ". The cause is not known"
    LAWS_HOLD = ": every law that was tested holds, the cause is not known"
    DIFFERING = ". Members differ in {settings}"

    # The balance law

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
