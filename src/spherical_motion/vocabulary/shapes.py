"""Curves of a learning rate over a run, indexed as torch's schedulers are.

Entry t is what the class of `torch.optim.lr_scheduler` named in each docstring gives after t
calls of `scheduler.step()`, so a curve of n entries starts at its first value and reaches its last
*at* entry n, one past the end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument

Array = NDArray[np.float64]


def staircase(lr: float, steps: int, milestones: Sequence[int], factor: float) -> Array:
    """`lr`, divided by `factor` at each milestone (`MultiStepLR`, with gamma = 1/factor)."""
    checks.whole("Schedule", "steps", steps, least=1)
    checks.number("Schedule", "factor", factor, above=0.0)
    edges = [0, *milestones, steps]
    if any(b <= a for a, b in itertools.pairwise(edges)):
        raise InvalidArgument(
            "Schedule.step_decay(milestones=...) must increase strictly between 0 and "
            f"steps={steps}, got {list(milestones)}."
        )
    levels = [lr / factor**drops for drops in range(len(milestones) + 1)]
    return np.repeat(levels, np.diff(edges))


def ramp(lr: float, steps: int, start_factor: float) -> Array:
    """From `start_factor`·lr in a straight line to `lr` (`LinearLR`)."""
    checks.number("Schedule", "start_factor", start_factor, least=0.0, most=1.0)
    return lr * (start_factor + (1.0 - start_factor) * _elapsed(steps))


def cosine_curve(lr: float, steps: int, final_lr: float) -> Array:
    """Half a cosine wave from `lr` to `final_lr` (`CosineAnnealingLR`)."""
    checks.number("Schedule", "final_lr", final_lr, least=0.0)
    return final_lr + (lr - final_lr) * (1.0 + np.cos(np.pi * _elapsed(steps))) / 2.0


def polynomial_curve(lr: float, steps: int, power: float, final_lr: float) -> Array:
    """final_lr + (lr - final_lr)·(1 - t/steps)^power (`PolynomialLR`; a line at power 1)."""
    checks.number("Schedule", "power", power, above=0.0)
    checks.number("Schedule", "final_lr", final_lr, least=0.0)
    return final_lr + (lr - final_lr) * (1.0 - _elapsed(steps)) ** power


def exponential_curve(lr: float, steps: int, final_lr: float) -> Array:
    """lr·(final_lr/lr)^(t/steps) (`ExponentialLR`, with gamma = (final_lr/lr)^(1/steps))."""
    checks.number("Schedule", "lr", lr, above=0.0)
    checks.number("Schedule", "final_lr", final_lr, above=0.0)
    return lr * np.exp(math.log(final_lr / lr) * _elapsed(steps))


def _elapsed(steps: int) -> Array:
    """The fraction t/steps of the curve that has passed, shape (steps,)."""
    return np.arange(checks.whole("Schedule", "steps", steps, least=1)) / steps
