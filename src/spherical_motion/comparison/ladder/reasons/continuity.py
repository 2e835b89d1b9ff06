"""Reasons: weights that something beside the optimizer writes."""

from __future__ import annotations

import enum

from spherical_motion.vocabulary import ReasonKind, Suspect


@enum.unique
class WriteReason(ReasonKind):
    """Weights that something beside the optimizer writes."""

    WRITTEN = (
        "the weights were written between steps, at {steps} ({written:,} of {pairs:,}), by {write} "
        "of the norm each{beside}",
        Suspect.WEIGHTS_WRITTEN,
    )
    WRITTEN_AT_RESUME = (
        "where the run was resumed, at step {step:,}, the norm differs by {write} from that after "
        "the step before, so other weights were loaded",
        Suspect.WEIGHTS_WRITTEN,
    )
    SECOND_OPTIMIZER = (
        "another optimizer ({name}) steps these weights as well, first seen at step {first:,}",
        Suspect.WEIGHTS_WRITTEN,
    )
    BY_ANOTHER = ". Another optimizer ({name}) steps them as well"
