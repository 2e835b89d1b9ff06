"""Which of several rows of one key counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer]


def latest(keys: Ints) -> NDArray[np.intp]:
    """Indices of the last occurrence of each distinct key, in the order of the keys.

    >>> latest(np.array([5, 3, 5]))
    array([1, 2])
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    return order[last]
