"""Reasons: a gradient with a part along the weights, or that was altered."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect

_EPSILON = "invariant but for the ε of its norm {layers}: the input there is so small that ε "


@enum.unique
class RadialReason(ReasonKind):
    """A gradient with a part along the weights, or that was altered."""

    INVARIANCE_LOST = (
        "it was proven invariant when the run began, but now the gradient has a radial part "
        "(cosine {defect:.2g}), far more than the norm layer's ε explains. The cause is not known: "
        "was the model changed, or is a norm layer in eval mode?"
    )
    RADIAL_UNKNOWN = (
        "the gradient of this certified group has a part along the weights, {share} weight "
        "decay's pull. The cause is not known",
        Suspect.RADIAL_PART,
    )
    RADIAL_OUTWARD = (
        "; it points outward at {share:.0%} of the steps, as with SAM, whose gradient is that of "
        "weights further up the loss, or with a penalty on the gradient"
    )
    RADIAL_PUT_BACK = (
        "the gradient has a part along the weights, {share} weight decay's pull, since it is not "
        "that of these weights: before {put_back:,} of {pairs:,} steps something changed them and "
        "put them back up to rounding, as SAM does",
        Suspect.WEIGHTS_PUT_BACK,
    )
    RADIAL_STALE = (
        "{share:.0%} of the steps used the gradient of the step before again, so it has a part "
        "along the weights of now, {pull} weight decay's pull",
        Suspect.STALE_GRADIENT,
    )
    EVAL_MODE = (
        "a norm layer that these weights feed{named} was in eval mode ({share:.0%} of the audited "
        "steps), so the loss depends on the size of the weights",
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
        "in the norm {layers} that these weights feed, ε is {epsilon:.0%} of ε + variance, which "
        "then is not normalized",
        Suspect.EPSILON,
    )
