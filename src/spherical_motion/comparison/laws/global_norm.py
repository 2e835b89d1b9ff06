"""A global gradient norm that sits at one value: the limit of a clip."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE, ABSOLUTE = 4e-6, 2e-6
"""`clip_grad_norm_` divides by the norm plus 1e-6, and float32 rounds: a norm v may lie below the
limit by v·RELATIVE + ABSOLUTE·v/|g|, where |g| before clipping is at least the limit."""

ROUGH = 2e-3
"""The same for gradients in half precision."""

FEWEST_AT_LIMIT = 3
"""Steps at the limit before it counts as one."""


def clipped_norm(norms: ArrayLike, *, rough: bool = False) -> tuple[float, float]:
    """(limit, share of the steps at it) of global norms; (NaN, 0) if none sits at a limit.

    A limit is the largest norm, to which several others are equal up to rounding.

    Args:
        norms: global norms before the steps; NaN is left out.
        rough: the gradients are in half precision.

    >>> clipped_norm([0.3, 1.0, 1.0, 0.8, 1.0])
    (1.0, 0.6)
    >>> clipped_norm([0.3, 0.9, 1.0])
    (nan, 0.0)
    """
    found: NDArray[np.float64] = np.asarray(norms, dtype=np.float64)
    found = found[np.isfinite(found)]
    limit, at_limit = clipped_steps(found, rough=rough)
    return limit, float(at_limit.mean()) if at_limit.size else 0.0


def clipped_steps(
    found: NDArray[np.float64], *, rough: bool = False
) -> tuple[float, NDArray[np.bool_]]:
    """(limit, which of the norms are at it) of finite norms; (NaN, none) as in `clipped_norm`."""
    none = np.zeros(found.size, dtype=bool)
    if not found.size or found.max() <= 0.0:
        return math.nan, none
    limit = float(found.max())
    slack = max(RELATIVE + ABSOLUTE / limit, ROUGH if rough else 0.0)
    at_limit = found >= limit * (1.0 - slack)
    # Norms near the largest by chance spread evenly below it; clipped ones leave nothing beside.
    beside = (found >= limit * (1.0 - 10.0 * slack)) & ~at_limit
    if at_limit.sum() < FEWEST_AT_LIMIT or beside.sum() > 0.1 * at_limit.sum():
        return math.nan, none
    return float(np.median(found[at_limit])), at_limit
