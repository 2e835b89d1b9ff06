"""See whether somebody wrote weights since they were copied, without reading all of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import numba
import numpy as np
import torch
from numba import types
from numpy.typing import NDArray

from spherical_motion.measure.compiled_cache import compile_cached
from spherical_motion.measure.loops import INDEX, INDICES, pointer_to

LINES = 8
"""Places of each tensor that are compared, one in each eighth of it."""

LINE = 16
"""Words of four bytes in each place, a line of the cache: 16 entries of float32, 8 of float64."""

FIRST, SECOND, THIRD = (
    np.uint64(factor) for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)

VERSION = attrgetter("_version")

_words = pointer_to(types.uint32)


class Writes:
    """Notices writes to tensors that a copy should equal bit for bit.

    Two things are compared. torch counts the writes to each tensor (`_version`), also those
    through views and `detach()`; this misses none. Writes through `.data`, through numpy or by
    compiled code are not counted. For them `LINES` × `LINE` words of each tensor are compared with
    the copy, at places that change from step to step; tensors of up to 128 words are compared
    whole.

    What can slip through: a write that is not counted and changes a share f of the words of a
    tensor is missed at one step with probability (1 - f)^128 if they are scattered evenly, and with
    about (1 - f)^8 if they lie in one piece. Over several tensors these multiply. A write that
    changes every word is always seen. A write of one word among n is seen with probability 128/n.
    What was missed is taken for a part of the next step.

    Args:
        copies: where the copies lie, (tensors,).
        nbytes: of each tensor.
    """

    def __init__(self, copies: NDArray[np.int64], nbytes: NDArray[np.int64]) -> None:
        self._copies, self._words = copies, nbytes // 4
        self._versions: list[int] = []
        self._looks = 0
        compile_cached(_differ, (INDICES, INDICES, INDICES, INDEX), "differ")

    def remember(self, tensors: Sequence[torch.Tensor]) -> None:
        """The copies are equal to the tensors now."""
        self._versions = _versions(tensors)

    def seen(self, tensors: Sequence[torch.Tensor], addresses: NDArray[np.int64]) -> bool:
        """Whether any of the tensors, which begin at these addresses, was written since then."""
        try:
            if list(map(VERSION, tensors)) != self._versions:
                return True
        except RuntimeError:  # tensors that are not counted
            return True
        self._looks += 1
        return bool(_differ(addresses, self._copies, self._words, self._looks))


def _versions(tensors: Sequence[torch.Tensor]) -> list[int]:
    """How often torch has written each; none where it does not count (inference tensors)."""
    try:
        return list(map(VERSION, tensors))
    except RuntimeError:
        return []


@numba.njit(nogil=True)
def _mixed(number):
    """A random number for each number: splitmix64 (Steele, Lea and Flood, 2014)."""
    number = (number ^ (number >> np.uint64(30))) * SECOND
    number = (number ^ (number >> np.uint64(27))) * THIRD
    return np.int64((number ^ (number >> np.uint64(31))) >> np.uint64(1))


@numba.njit(nogil=True)
def _differ(addresses, copies, words, seed):
    for t in range(len(addresses)):
        mine, theirs, n = _words(addresses[t]), _words(copies[t]), words[t]
        if n <= LINES * LINE:
            for i in range(n):
                if mine[i] != theirs[i]:
                    return 1
            continue
        lines = (n + LINE - 1) // LINE
        for k in range(LINES):
            low, high = lines * k // LINES, lines * (k + 1) // LINES
            drawn = _mixed(np.uint64(seed) * FIRST + np.uint64(t * LINES + k))
            start = min((low + drawn % (high - low)) * LINE, n - LINE)
            for i in range(start, start + LINE):
                if mine[i] != theirs[i]:
                    return 1
    return 0
