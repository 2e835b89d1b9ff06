"""What a formula may have to know of a group beside the optimizer's settings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from spherical_motion.errors import InvalidArgument

Fact = float | None
"""A field of `GroupFacts`: a number, or None where it is unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class GroupFacts:
    """Numbers that describe one group; None where unknown.

    Each family reads the ones it needs and ignores the others, so that one description of a group
    serves every optimizer. A value is checked when a formula reads it.

    Attributes:
        unit_grad_sq: L, the mean of h̃ (`sphere.unit_gradient_drive`); for Nesterov of |g̃|². The
            norm of the SGD families needs it.
        overlap: <v_{t-1}, g>/|g|², ratio of means; None is 0. Nesterov's angle and norm depend
            on it.
        numel: number of entries. AdamW and Lion need it for the norm, Adam with L2 always.
        unit_grad_rms: σ, the mean over entries of the RMS of g̃. Adam with L2 needs it.
        correlation: c = 1 + 2Σρ_k (`correlation_sum`). Muon and other decoupled ones need it.
        update_sq: mean |u|² of the update u. The norm of any decoupled optimizer needs it.

    >>> GroupFacts(numel=64).need("numel")
    64.0
    """

    unit_grad_sq: Fact = None
    overlap: Fact = None
    numel: Fact = None
    unit_grad_rms: Fact = None
    correlation: Fact = None
    update_sq: Fact = None

    def need(
        self, name: str, where: str = "GroupFacts", optimizer: str = "this optimizer"
    ) -> float:
        """The fact `name`.

        Raises:
            InvalidArgument: it is unknown, or not finite and > 0.
        """
        value = getattr(self, name)
        if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
            raise InvalidArgument(
                f"{where}({name}=...) must be finite and > 0 for {optimizer}, got {value}."
            )
        return float(value)
