"""y_{t+1} = y_t·e^{-r_t} + s_t, solved for all steps at once."""

from __future__ import annotations

import numpy as np

from spherical_motion.checks import Array

LARGEST_EXPONENT = 300.0
"""Total decay handled in one go: e^±300 stays well inside float64."""


def mean_decay(rate: Array) -> Array:
    """(1 - e^{-r})/r: what is left, on average over a step, of what entered during it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rate > 0, -np.expm1(-rate) / rate, 1.0)


def relaxed(rate: Array, source: Array, start: Array) -> Array:
    """y, (steps + 1, ...), from r_t of shape (steps,), s_t (steps, ...) and y_0 (...)."""
    rate = np.minimum(rate, LARGEST_EXPONENT)  # nothing is left after that
    y = np.empty((rate.size + 1, *start.shape))
    y[0] = start
    column = (slice(None), *([None] * start.ndim))
    first = 0
    while first < rate.size:
        # Within a block y_t = e^{-E_t}(y_first + Σ s_i e^{E_{i+1}}), E the summed rate.
        exponent = np.cumsum(rate[first:])
        length = max(1, int(np.searchsorted(exponent, LARGEST_EXPONENT)))
        block = slice(first, first + length)
        grown = np.exp(exponent[:length])[column]
        total = y[first] + np.cumsum(source[block] * grown, axis=0)
        y[first + 1 : first + length + 1] = total / grown
        first += length
    return y
