"""What an observer of an audited step is.

An observer is called around the steps of one optimizer, on the training thread, under the guard of
the audit: an exception in it ends the audit and not training. All methods do nothing unless they
are overridden.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class StepObserver:
    """Looks at audited steps of one optimizer; it must change nothing."""

    def prepare(self, step: int) -> None:
        """The next step, number `step`, will be audited; its forward pass has not begun.

        Not called where this is not known so early: at the first step after a change of settings.
        """

    def before(self, step: int) -> None:
        """An audited step begins: gradients are made, weights and state are old."""

    def columns(self, step: int) -> Mapping[str, NDArray[np.float64]]:
        """After it: columns of `records.AUDIT_SUMS`, each of shape (parameters of the context,)."""
        return {}

    def facts(self, step: int) -> Mapping[str, float]:
        """After it: any of "counter", "taken" and "grad_norm", see `RunWriter.audit_step`."""
        return {}

    def stepped(self) -> None:
        """Any step was taken, audited or not; called at each, so it must be fast."""

    def close(self) -> None:
        """The audit ends; may be called more than once."""
