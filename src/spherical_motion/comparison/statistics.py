"""Root mean squares of autocorrelated series with their intervals, by the method of batch means."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spherical_motion.estimates import Estimate, mean_ratio, slow_mean_ratio


def around(value: float, other: Estimate) -> Estimate:
    """`value` with the interval of an estimate of the same quantity, moved to it.

    >>> around(1.5, Estimate(1.0, 0.75, 1.25))
    Estimate(value=1.5, low=1.25, high=1.75)
    """
    return Estimate(value, value + other.low - other.value, value + other.high - other.value)


def root_mean_ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Estimate:
    """√(mean numerator / mean denominator) with the interval of `mean_ratio`.

    >>> rng = np.random.default_rng(0)
    >>> e = root_mean_ratio(rng.exponential(4.0, 10_000), np.ones(10_000))
    >>> e.low < 2.0 < e.high
    True
    """
    return _root(mean_ratio(numerator, denominator))


def slow_root_mean_ratio(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64]
) -> Estimate:
    """√(mean numerator / mean denominator) with the interval of `slow_mean_ratio`."""
    return _root(slow_mean_ratio(numerator, denominator))


def _root(ratio: Estimate) -> Estimate:
    # Of NaN and 0, `max` returns the one that comes first.
    return Estimate(*(math.sqrt(max(x, 0.0)) for x in (ratio.value, ratio.low, ratio.high)))


def rms_ratio(values: NDArray[np.float64], reference: float) -> Estimate:
    """√(mean values²) / reference, with its interval."""
    return root_mean_ratio(values * values, np.full(values.shape, reference * reference))
