"""What a formula may have to know of a group beside the settings, and how records measure it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from spherical_motion import sphere
from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary.gram import Gram

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

        Raises InvalidArgument: it is unknown, or not finite and > 0.
        """
        value = getattr(self, name)
        try:
            found = float(value) if isinstance(value, (int, float, np.number)) else math.nan
        except OverflowError:
            found = math.inf
        if not (math.isfinite(found) and found > 0):
            raise InvalidArgument(
                f"{where}({name}=...) must be finite and > 0 for {optimizer}, got {value}."
            )
        return found


def update_sq(gram: Gram, s: Steps, numel: int) -> Array:
    """|u|² of the update u in d = -η(u + λw), decoupled weight decay."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = gram.dd / s.lr**2 + 2.0 * s.weight_decay * gram.wd / s.lr
        return size + s.weight_decay**2 * gram.ww


def _unit_grad_sq(gram: Gram, s: Steps, numel: int) -> Array:
    return sphere.unit_gradient_drive(gram, s.lr, s.weight_decay, s.momentum)


def _numel(gram: Gram, s: Steps, numel: int) -> Array:
    return np.full(s.lr.shape, float(numel))


def _unit_grad_rms(gram: Gram, s: Steps, numel: int) -> Array:
    # σ is the *mean* RMS over the entries. The six products hold their root mean square only,
    # which is σ where all entries are alike and more where not.
    return sphere.unit_gradient_norm(gram) / np.sqrt(numel)


MEASURED = MappingProxyType[str, Callable[[Gram, Steps, int], Array]](
    {
        "unit_grad_sq": _unit_grad_sq,
        "numel": _numel,
        "unit_grad_rms": _unit_grad_rms,
        "update_sq": update_sq,
    }
)
"""Field of `GroupFacts` that drives the norm → its value at each sample."""
