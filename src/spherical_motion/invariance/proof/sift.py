"""Telling the false candidates from the true ones once something has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.search import Pattern, Symmetry

__all__ = ["sifted", "without_patterns"]

FAMILY_SHARE = 0.01
"""Where this share of a parameter's cells fails, the rest hold by chance and go as well."""


def without_patterns(cells: Sequence[Symmetry], false: NDArray[np.bool_]) -> list[Symmetry]:
    """The cells that are not false themselves and whose parameter holds few that are.

    Dropping one by one those that a clip leaves flat by chance would not come to an end.
    """
    sizes = Counter(c.pattern for c in cells)
    failures = Counter(c.pattern for c, bad in zip(cells, false, strict=True) if bad)
    rotten = {f for f, n in failures.items() if n >= FAMILY_SHARE * sizes[f]}
    return [c for c, bad in zip(cells, false, strict=True) if not bad and c.pattern not in rotten]


def sifted(cells: Sequence[Symmetry], moves: Callable[[list[Symmetry]], bool]) -> list[Symmetry]:
    """Keep the families that do not move the outputs: halve, and halve again where it moves.

    At most 2⌈log₂ n⌉ + 1 calls of `moves` for each false family among n.

    >>> from spherical_motion.vocabulary import Slice
    >>> cells = [Symmetry.scale([Slice(name, 0, 0, 1)]) for name in "abcde"]
    >>> [c.parts[0].parameter for c in sifted(cells, lambda some: cells[3] in some)]
    ['a', 'b', 'c', 'e']
    """
    families: dict[Pattern, list[Symmetry]] = {}
    for cell in cells:
        families.setdefault(cell.pattern, []).append(cell)

    def kept(names: list[Pattern]) -> list[Pattern]:
        if not names or not moves([c for name in names for c in families[name]]):
            return names
        if len(names) == 1:
            return []
        half = len(names) // 2
        return kept(names[:half]) + kept(names[half:])

    keep = set(kept(list(families)))
    return [cell for cell in cells if cell.pattern in keep]
