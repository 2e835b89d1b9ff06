"""Whole parameters whose ⟨w, g⟩ cancel together: writers of a residual stream, keys and queries.

A norm that reads a stream makes all that is added into it invariant together, whatever its shape. A
relation of whole tensors gives one equation a probe, too few to solve for the coefficients. So sums
with coefficients ±1 are tried, of up to four members, and of any number of roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from spherical_motion.invariance.search.ledger import Ledger
from spherical_motion.invariance.search.roles import builds_of, roles_of
from spherical_motion.invariance.search.sums import signed_sums, zero_subsets
from spherical_motion.invariance.search.symmetry import Symmetry, grouped
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import module_of

MOST_SUMMED = 150
"""Signed sums are taken among this many neighbouring tensors, half of them new each time."""

MOST_ROLES = 24
"""Subsets are taken among this many neighbouring roles: 2¹² sums a side."""

T = TypeVar("T")


def search_totals(ledger: Ledger) -> None:
    """Find signed sums of two to four tensors or modules, then subsets of roles."""
    _search_signed(ledger, [(name,) for name in ledger.open_tensors()])
    _search_signed(ledger, [tuple(each) for each in grouped(ledger.open_tensors(), module_of)])
    builds = builds_of(ledger.evidence)
    for names in [*_by_width(ledger), ledger.open_tensors()]:
        for partition in [[(name,) for name in names], *roles_of(names, builds)]:
            _search_subsets(ledger, partition)


def _by_width(ledger: Ledger) -> list[list[str]]:
    """Open tensors with equally many rows, as those that write into one stream have."""
    wide = [name for name in ledger.open_tensors() if ledger.evidence[name][0].rows > 1]
    widths = grouped(wide, lambda name: ledger.evidence[name][0].rows)
    return [names for names in widths if len(names) > 1]


def _search_signed(ledger: Ledger, atoms: Sequence[tuple[str, ...]]) -> None:
    for window in _windows(atoms, MOST_SUMMED):
        values, sizes = _sums(ledger, window)
        for relation in signed_sums(values, sizes, ledger.zero):
            _accept(ledger, [(name, sign) for k, sign in relation.items() for name in window[k]])


def _search_subsets(ledger: Ledger, atoms: Sequence[tuple[str, ...]]) -> None:
    if len(atoms) <= MOST_ROLES:
        atoms = sorted(atoms, key=len)
    for window in _windows(atoms, MOST_ROLES):
        values, sizes = _sums(ledger, window)
        for subset in zero_subsets(values, sizes, ledger.zero):
            ordered = sorted(subset, key=lambda k: len(window[k]))
            _accept(ledger, [(name, 1) for k in ordered for name in window[k]])


def _accept(ledger: Ledger, members: Sequence[tuple[str, int]]) -> None:
    """Accept a relation of whole tensors, if it is new.

    It is not new if it holds an eliminated tensor, or is a rescaling that follows from others.
    """
    if not {name for name, _ in members} <= set(ledger.open_tensors()):
        return
    parts = tuple(Slice(n, 0, 0, ledger.evidence[n][0].rows) for n, _ in members)
    symmetry = Symmetry(parts, tuple(power for _, power in members))
    if symmetry.kind == "scale" or not ledger.implied(dict(members)):
        ledger.accept([symmetry])


def _windows(atoms: Sequence[T], width: int) -> Iterator[Sequence[T]]:
    """Overlapping windows, so that neighbours half a width apart share one."""
    for start in range(0, max(1, len(atoms) - width // 2), max(1, width // 2)):
        yield atoms[start : start + width]


def _sums(ledger: Ledger, atoms: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Σ⟨w, g⟩ of each atom and its size, shape (probes, atoms)."""
    rows = [[ledger.evidence[name][0] for name in atom] for atom in atoms]
    if not rows:
        return np.zeros((1, 0)), np.zeros((1, 0))
    t = np.stack([sum(r.t.sum(axis=-1) for r in members) for members in rows], axis=-1)
    square = [sum((r.ww * r.gg).sum(axis=-1) for r in members) for members in rows]
    return t, np.sqrt(np.stack(square, axis=-1))
