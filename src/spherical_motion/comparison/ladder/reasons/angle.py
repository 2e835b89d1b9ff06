"""Reasons: the angle beside the predicted one, and the assumption that fails."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect


@enum.unique
class AngleReason(ReasonKind):
    """The angle beside the predicted one, and the assumption that fails."""

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
        ": its updates are correlated otherwise than the prediction takes them to be. Their "
        "correlation sum is {measured:.3g} ({bursts:,} bursts) in place of {assumed:.3g}, which "
        "gives {gives:.2f}",
        Suspect.CORRELATED_GRADIENTS,
    )
    CORRELATED_PARTLY = (
        ": its updates are correlated otherwise than the prediction takes them to be. Their "
        "correlation sum is {measured:.3g} ({bursts:,} bursts) in place of {assumed:.3g}. That "
        "alone would give {gives:.2f}, so something else plays a part",
        Suspect.CORRELATED_GRADIENTS,
    )
    CORRELATED_UNMEASURED = (
        ": every law that was tested holds, so its updates may be correlated otherwise than the "
        "prediction takes them to be: a correlation sum of {excess:.2f} times the assumed one "
        "would give this angle. It was not measured; correlation_every= measures it",
        Suspect.CORRELATED_GRADIENTS,
    )
    METRIC_PULL = (
        ": the optimizer scales the entries differently, so the loss has a part along the weights: "
        "the pull is {pull:.2f} times weight decay, which alone gives {gives:.2f}",
        Suspect.UNEVEN_ENTRIES,
    )
    UNEVEN_ENTRIES = (
        ": the prediction takes the entries of the gradient to be alike in size, and they are not: "
        "weight decay pulls {pull:.2f} times as strongly as it would then, which gives {gives:.2f}",
        Suspect.UNEVEN_ENTRIES,
    )
    UNEVEN_UNMEASURED = (
        ": the prediction takes the entries of the gradient to be alike in size. How uneven they "
        "are was not measured; products=7 measures the pull that tells",
        Suspect.UNEVEN_ENTRIES,
    )
    SCALED = (
        ": its gradient's size changed × {factor:.3g} at step {step:,}, as in {groups} of {known} "
        "groups",
        Suspect.GRADIENT_SCALE,
    )
    LAW_BROKEN = (
        ": the steps break the law of motion (residual {residual:.2g})",
        Suspect.STEP_DIFFERS,
    )
    MIXED = ": its members do not share one setting", Suspect.MIXED_SETTINGS
    FADED = ": the gradient faded (its square × {change:.2g} in this stage)", Suspect.FADING
    NORM_MOVED = ": its norm moved by {drift:+.0%} while it was judged", Suspect.MOVING_NORM
    UNEXPLAINED = ". The cause is not known"
    LAWS_HOLD = (
        ": every law that was tested holds, the cause is not known. The pull of weight decay and "
        "loss was not measured: {why}"
    )
    LAWS_HOLD_PULL = (
        ": every law that was tested holds, the cause is not known. The measured pull of weight "
        "decay and loss ({pull:.3g}) alone gives {gives:.2f} at rest"
    )
    LAWS_HOLD_PULL_VAGUE = (
        ": every law that was tested holds, the cause is not known. The measured pull of weight "
        "decay and loss, {pull:.3g} ({low:.3g} to {high:.3g}), is too uncertain to give an angle"
    )
    LAWS_HOLD_CORRELATION = (
        ": every law that was tested holds, the cause is not known. The correlation sum of its "
        "updates, {measured:.3g} ({bursts:,} bursts) beside the assumed {assumed:.3g}, does not "
        "explain it"
    )
