"""Rows of one module whose ⟨w, g⟩ cancel only together, as a weight's with its bias's."""

from __future__ import annotations

import itertools

import numpy as np

from spherical_motion.invariance.running import RowSums
from spherical_motion.invariance.search.ledger import Ledger
from spherical_motion.invariance.search.slices import finest_ranges
from spherical_motion.invariance.search.symmetry import Symmetry, grouped
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import module_of

MOST_TOGETHER = 4
"""An LSTM's layer has two weights and two biases."""

MOST_MEMBERS = 12
"""A module with more parameters is searched by sums only."""


def search_modules(ledger: Ledger) -> None:
    """Find contiguous blocks of rows that several parameters of a module share.

    Row i of a weight and row i of its bias are added. The sums are searched like the rows of one
    parameter: for a filter with its bias, a norm group's, a head's, the whole layer.
    """
    for members in grouped(ledger.open_tensors(), module_of):
        if len(members) <= MOST_MEMBERS:
            for count in range(2, min(len(members), MOST_TOGETHER) + 1):
                for some in itertools.combinations(members, count):
                    _search_together(ledger, some)


def _search_together(ledger: Ledger, members: tuple[str, ...]) -> None:
    """Accept the blocks of these parameters along the first choice of axes that has any."""
    axes = [range(len(ledger.evidence[name])) for name in members]
    for choice in itertools.product(*axes):
        chosen = list(zip(members, choice, strict=True))
        rows = [ledger.evidence[name][axis] for name, axis in chosen]
        if len({r.rows for r in rows}) != 1:
            continue
        alive = np.logical_and.reduce([ledger.unscaled_rows(*each) for each in chosen])
        ranges = finest_ranges(_added(rows), alive, ledger.zero)
        if not ranges:
            continue
        any_live = np.logical_or.reduce([ledger.live[name][axis] for name, axis in chosen])
        if len(ranges) == 1 and not np.delete(any_live, np.arange(*ranges[0])).any():
            wholes = [Slice(n, 0, 0, ledger.evidence[n][0].rows) for n in members]
            ledger.accept([Symmetry.scale(wholes)])
        else:
            ledger.accept(Symmetry.scale(Slice(*each, *r) for each in chosen) for r in ranges)
        return


def _added(rows: list[RowSums]) -> RowSums:
    """The sums of rows that are rescaled together.

    `size` of the result is √(ww·gg) ≥ √Σ ww_i·gg_i of its members, by Cauchy and Schwarz.
    """
    t, ww, gg = (sum(getattr(r, name) for r in rows) for name in ("t", "ww", "gg"))
    return RowSums(np.asarray(t), np.asarray(ww), np.asarray(gg), sum(r.entries for r in rows))
