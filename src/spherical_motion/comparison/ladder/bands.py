"""Where an estimate lies against a band around 1: inside, outside, or too vague to say."""

from __future__ import annotations

import enum

from spherical_motion.estimates import Estimate


class Place(enum.Enum):
    """What a 95% interval says of a band."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    UNCLEAR = "unclear"


def place(ratio: Estimate, low: float, high: float) -> Place:
    """Where a ratio lies against the band from `low` to `high`, which holds 1.

    Outside is an interval that misses the band, or that misses 1 and is no wider than the band. An
    interval that is too wide, or not known, is unclear.

    >>> place(Estimate(1.0, 0.95, 1.05), 0.9, 1.1), place(Estimate(0.8, 0.0, 1.6), 0.9, 1.1)
    (<Place.INSIDE: 'inside'>, <Place.UNCLEAR: 'unclear'>)
    >>> place(Estimate(0.9, 0.85, 0.95), 0.9, 1.1), place(Estimate(0.8, 0.7, 0.89), 0.9, 1.1)
    (<Place.OUTSIDE: 'outside'>, <Place.OUTSIDE: 'outside'>)
    """
    if low <= ratio.low and ratio.high <= high:
        return Place.INSIDE
    missed = ratio.low > high or ratio.high < low
    misses_one = ratio.low > 1.0 or ratio.high < 1.0
    if missed or (misses_one and ratio.high - ratio.low <= high - low):
        return Place.OUTSIDE
    return Place.UNCLEAR
