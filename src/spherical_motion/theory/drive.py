"""What pushes the norm outward, measured from recorded Grams: one function a kind of drive."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from spherical_motion import sphere
from spherical_motion.theory.settings import Array, Steps
from spherical_motion.vocabulary.gram import Gram


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
