"""Measured and predicted motion of one group at every sample, ready to be drawn."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion import sphere, theory
from spherical_motion.comparison.motion import Motion
from spherical_motion.errors import OutOfDomain
from spherical_motion.vocabulary import Stage

Array = NDArray[np.float64]

SMOOTHING = 40
"""The measured drive is averaged over this fraction of a stage before it is drawn."""


@dataclasses.dataclass(frozen=True, slots=True)
class Curves:
    """Arrays of shape (samples,); angles in rad; NaN where unknown.

    `predicted_angle` and `predicted_norm` follow the transient, restarted from the measured
    norm at each stage and driven by the measured gradient; `equilibrium_angle` is Δ*. In a group
    of kind "plain" the balance law gives `predicted_angle`, and the others are not predicted.
    """

    steps: NDArray[np.int64]
    angle: Array
    predicted_angle: Array
    equilibrium_angle: Array
    norm: Array
    predicted_norm: Array
    lr: Array


def curves_of(motion: Motion | None, stages: Sequence[Stage]) -> Curves:
    """The curves of a group, stage by stage; empty arrays where nothing was recorded."""
    if motion is None:
        return Curves(np.empty(0, np.int64), *[np.empty(0)] * 6)
    angles, rests, norms = (np.full(len(motion), np.nan) for _ in range(3))
    for stage in stages:
        part = slice(*np.searchsorted(motion.steps, [stage.start, stage.stop]).tolist())
        here = motion[part]
        if here.group.kind == "plain":
            angles[part] = _balance_angle(here)
            continue
        if not here.predictable:
            continue
        facts = here.facts
        norms[part] = norm = here.driven_norm(facts)
        squares = here.driven_step_ratio_sq(norm, facts)
        squares = _smoothed(squares, max(len(here) // SMOOTHING, 5))
        angles[part] = np.sqrt(np.where(squares > 0, squares, np.nan))
        if stage.hp is not None:
            with contextlib.suppress(OutOfDomain):
                rests[part] = theory.family_of(stage.hp).angle(stage.hp, facts)
    return Curves(motion.steps, motion.angle, angles, rests, motion.norm, norms, motion.lr)


def _balance_angle(here: Motion) -> Array:
    """The angle that the balance law gives, averaged over a stretch of steps."""
    width = max(len(here) // SMOOTHING, 5)
    # Of |d|² only the part along the sphere turns the weights: |d|² - (|w'| - |w|)².
    radial = (sphere.norm_after(here.gram) - here.norm) ** 2
    squares = _smoothed(here.law - radial, width) / _smoothed(here.gram.ww, width)
    return np.sqrt(np.where(squares > 0, squares, np.nan))


def _smoothed(values: Array, width: int) -> Array:
    """Running mean over up to `width` samples to each side, ignoring NaN; edges use fewer."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(values.size)
    low, high = np.maximum(index - width, 0), np.minimum(index + width + 1, values.size)
    with np.errstate(invalid="ignore"):
        return (total[high] - total[low]) / (count[high] - count[low])
