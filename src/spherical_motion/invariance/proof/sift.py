"""Separating false candidates from true ones after a failed rescaling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.search import Symmetry, by_pattern

PATTERN_SHARE = 0.01
"""If this share of a pattern's cells fails, the others held by chance and are dropped too."""


def without_patterns(cells: Sequence[Symmetry], false: NDArray[np.bool_]) -> list[Symmetry]:
    """The cells that are not false and whose pattern has few false ones.

    A clip leaves thousands of cells flat by chance; dropping them one by one would take too long.
    """
    sizes = Counter(c.pattern for c in cells)
    failures = Counter(c.pattern for c, bad in zip(cells, false, strict=True) if bad)
    failed = {f for f, n in failures.items() if n >= PATTERN_SHARE * sizes[f]}
    return [c for c, bad in zip(cells, false, strict=True) if not bad and c.pattern not in failed]


def sifted(cells: Sequence[Symmetry], moves: Callable[[list[Symmetry]], bool]) -> list[Symmetry]:
    """Keep the patterns that do not move the outputs: halve, and halve again where they move.

    At most 2⌈log₂ n⌉ + 1 calls of `moves` for each false pattern among n.

    >>> from spherical_motion.vocabulary import Slice
    >>> cells = [Symmetry.scale([Slice(name, 0, 0, 1)]) for name in "abcde"]
    >>> [c.parts[0].parameter for c in sifted(cells, lambda some: cells[3] in some)]
    ['a', 'b', 'c', 'e']
    """

    def kept(patterns: list[list[Symmetry]]) -> list[list[Symmetry]]:
        if not patterns or not moves([cell for cells in patterns for cell in cells]):
            return patterns
        if len(patterns) == 1:
            return []
        half = len(patterns) // 2
        return kept(patterns[:half]) + kept(patterns[half:])

    keep = {cell for cells in kept(by_pattern(cells)) for cell in cells}
    return [cell for cell in cells if cell in keep]
