"""Who wrote the weights between two steps: the norm before a step is that after the step before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records.result import Records
from spherical_motion.vocabulary import EventKind, Gram

WRITTEN = 1e-7
"""Relative change of the norm between two steps from which on something wrote the weights. To round
all weights once more in float32 changes it by at most 6e-8; the recorded sums agree to 1e-15."""


def written_between(records: Records, gram: Gram, steps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Relative change of the norm from the end of the step before to the start of each step.

    NaN where the step before was not recorded, and where a steering tool says that it rescaled.
    The last axis of `gram` is the steps.
    """
    found = np.full(gram.shape, np.nan)
    ended = gram.ww + 2.0 * gram.wd + gram.dd
    with np.errstate(invalid="ignore", divide="ignore"):
        found[..., 1:] = np.sqrt(gram.ww[..., 1:] / ended[..., :-1]) - 1.0
    announced = np.isin(steps, rescaled_steps(records)[:, None] + np.array([-1, 0, 1]))
    found[..., np.diff(steps, prepend=steps[:1]) != 1] = np.nan
    return np.where(announced, np.nan, found)


def rescaled_steps(records: Records) -> NDArray[np.int64]:
    """The steps at which a steering tool says that it rescaled weights, in order."""
    kinds = (EventKind.RESCALED, EventKind.RESCALING_LIMITED)
    told = [e["step"] for e in records.events if e["kind"] in kinds]
    return np.sort(np.array([step for step in told if step is not None], np.int64))
