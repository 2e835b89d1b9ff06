"""Relations that hold row by row between parameters of equal length.

Examples: a gain rescales against the columns of the next layer, a filter in front of a ReLU against
the columns behind it, and a bias joins a residual stream, with the same small integers for each row
i. With K probes of C rows there are K·C equations for the coefficients of all parameters at once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from spherical_motion.invariance.running import Evidence
from spherical_motion.invariance.search.ledger import Ledger
from spherical_motion.invariance.search.nullspace import integer_relations
from spherical_motion.invariance.search.roles import builds_of, roles_of
from spherical_motion.invariance.search.slices import range_sums
from spherical_motion.invariance.search.symmetry import Symmetry
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import module_of

WIDEST_WINDOW = 192
"""Columns solved for together. Members of a relation lie at most half of this apart."""

MOST_SEGMENTS = 4
"""A fused weight is cut into at most this many strips, as q, k, v or a gate and its input."""


@dataclasses.dataclass(frozen=True, slots=True)
class Strip:
    """A parameter's rows along one axis from `offset` on, `width` at a time."""

    parameter: str
    axis: int
    offset: int
    width: int

    def part(self, row: int) -> Slice:
        """The slice that takes part in relation number `row`."""
        start = self.offset + row * self.width
        return Slice(self.parameter, self.axis, start, start + self.width)


Column = tuple[Strip, ...]
"""Strips with one coefficient: a single one, or one for each parameter of a role."""


class _Table:
    """The row sums of strips of one length, shape (probes, length)."""

    def __init__(self, ledger: Ledger, length: int) -> None:
        self.ledger = ledger
        self.length = length
        self._order = {name: i for i, name in enumerate(ledger.evidence)}
        self._cached_sums = functools.cache(self._sums)

    def place(self, strip: Strip) -> tuple[int, int, int]:
        """The position of a strip in the model, for sorting."""
        return self._order[strip.parameter], strip.axis, strip.offset

    def live(self, column: Column) -> NDArray[np.bool_]:
        """Rows in which a column's sums are not merely rounding errors."""
        return np.logical_or.reduce(
            [self._any(self.ledger.live[s.parameter][s.axis], s) for s in column]
        )

    def open(self, strip: Strip) -> bool:
        """Whether a strip holds rows that may take part in a relation."""
        rows = self.ledger.open[strip.parameter][strip.axis]
        if strip.width > 1:
            rows = rows & ~self.ledger.eliminated[strip.parameter][strip.axis]
        return bool(self._any(rows, strip).any())

    def sums(self, columns: Sequence[Column], name: str) -> NDArray[np.float64]:
        """Σ t, or Σ ww·gg if `name` is "square", of columns; shape (probes, length, columns)."""
        read = self._cached_sums
        return np.stack([sum(read(s, name) for s in column) for column in columns], axis=-1)

    def _sums(self, strip: Strip, name: str) -> NDArray[np.float64]:
        rows = self.ledger.evidence[strip.parameter][strip.axis]
        values = rows.t if name == "t" else rows.ww * rows.gg
        return range_sums(values, *self._edges(strip))

    def _any(self, flags: NDArray[np.bool_], strip: Strip) -> NDArray[np.bool_]:
        return range_sums(flags.astype(np.float64), *self._edges(strip)) > 0

    def _edges(self, strip: Strip) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        start = strip.offset + strip.width * np.arange(self.length)
        return start, start + strip.width


def search_profiles(ledger: Ledger) -> None:
    """Find the relations of every length: between neighbours first, then between roles."""
    builds = builds_of(ledger.evidence)
    for length in _lengths(ledger.evidence):
        table = _Table(ledger, length)
        strips = list(_strips(ledger.evidence, length))
        used: set[Column] = set()
        _search(table, [(s,) for s in strips if (s.offset, s.width) == (0, 1)], used)
        _search(table, [(s,) for s in strips], used)
        whole = dict.fromkeys(s for s in strips if (s.offset, s.width) == (0, 1))
        for partition in roles_of(list(dict.fromkeys(s.parameter for s in whole)), builds):
            alike: list[Column] = []
            for role in partition:
                for axis in (0, 1):
                    column = tuple(Strip(name, axis, 0, 1) for name in role)
                    alike += [column] if all(strip in whole for strip in column) else []
            _search(table, sorted(alike, key=len), used)


def _lengths(evidence: Evidence) -> list[int]:
    """Numbers of rows that one parameter has, and another has a multiple of; the longest first."""
    rows = {name: {r.rows for r in axes} for name, axes in evidence.items()}
    counts = Counter(n for own in rows.values() for n in own if n > 1)
    return sorted(
        (n for n in counts if sum(any(m % n == 0 for m in own) for own in rows.values()) > 1),
        reverse=True,
    )


def _strips(evidence: Evidence, length: int) -> Iterator[Strip]:
    """All ways to read `length` rows out of the parameters, in model order."""
    for name, axes in evidence.items():
        for axis, rows in enumerate(axes):
            times, rest = divmod(rows.rows, length)
            if rest or not times:
                continue
            if times <= MOST_SEGMENTS:
                yield from (Strip(name, axis, k * length, 1) for k in range(times))
            if times > 1:
                yield Strip(name, axis, 0, times)


def _search(table: _Table, columns: Sequence[Column], used: set[Column]) -> None:
    """Accept the relations among columns, in windows no wider than the equations resolve.

    A network has more columns than equations, so a null space over all of them would hold mostly
    chance relations. Members of a relation are near each other in the model, hence the windows.
    Sweeps again while it finds something: an eliminated column brings the others closer together.
    """
    probes = next(iter(table.ledger.evidence.values()))[0].t.shape[0]
    width = min(WIDEST_WINDOW, 2 * probes * table.length // 3)
    known = -1
    while width > 1 and len(used) > known:
        known = len(used)
        free = [c for c in columns if c not in used and all(table.open(s) for s in c)]
        for start in range(0, max(1, len(free) - width // 2), max(1, width // 4)):
            window = [c for c in free[start : start + width] if c not in used]
            window = [c for c in window if all(table.open(s) for s in c)]
            if len(window) > 1:
                _search_window(table, window, used)


def _search_window(table: _Table, window: list[Column], used: set[Column]) -> None:
    ledger = table.ledger
    # Columns of tensors that the later search over whole tensors does not use come first, because
    # the first columns are eliminated.
    waiting = set(ledger.open_tensors())
    in_use = {column: any(s.parameter in waiting for s in column) for column in window}
    window.sort(key=in_use.__getitem__)
    t = table.sums(window, "t")
    relations = integer_relations(_equations(t), 100 * ledger.zero)
    if not relations:
        return
    size = np.sqrt(table.sums(window, "square"))
    live = np.stack([table.live(column) for column in window], axis=-1)
    for relation in relations:
        coefficients = np.array(relation)
        members = np.flatnonzero(coefficients).tolist()
        if _overlapping([window[m] for m in members]):
            continue
        total = np.abs(t @ coefficients)
        bound = ledger.zero * np.sqrt(size**2 @ coefficients**2)
        shown = live[:, members].sum(axis=1) > 1
        holds = shown & (total <= bound).all(axis=0)
        if 2 * holds.sum() <= shown.sum():  # holds in a minority of rows, so by chance
            continue
        free = [m for m in members if window[m] not in used] or members[:1]
        pivot = window[min(free, key=lambda m: (in_use[window[m]], *_side(window, relation, m), m))]
        used.add(pivot)
        strips = [(strip, relation[m]) for m in members for strip in window[m]]
        strips.sort(key=lambda item: table.place(item[0]))
        sign = 1 if strips[0][1] > 0 else -1
        powers = tuple(sign * power for _, power in strips)
        ledger.accept(
            (
                Symmetry(tuple(strip.part(row) for strip, _ in strips), powers)
                for row in np.flatnonzero(holds).tolist()
            ),
            pivot=[strip for strip, _ in strips].index(pivot[0]),
        )


def _side(window: Sequence[Column], relation: Sequence[int], member: int) -> tuple[int, int]:
    """(number of modules on a member's side of a relation, minus the number of parameters there).

    The pivot comes from the side with the smallest pair, so that the rest names a stream in few
    members: a gain is eliminated and not all that reads it, a layer's weight and not the layer
    scale that multiplies weight and bias.
    """
    beside = [
        column for column, c in zip(window, relation, strict=True) if c * relation[member] > 0
    ]
    parameters = {strip.parameter for column in beside for strip in column}
    return len(set(map(module_of, parameters))), -len(parameters)


def _equations(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """A random choice of the equations, twice as many as columns, as (equations, columns)."""
    probes, rows, columns = t.shape
    nonzero = np.flatnonzero((t != 0).any(axis=(0, 2)))
    enough = 2 * columns // probes + 8
    if nonzero.size > enough:
        nonzero = np.random.default_rng(rows).choice(nonzero, enough, replace=False)
    return t[:, nonzero].reshape(-1, columns)


def _overlapping(columns: Sequence[Column]) -> bool:
    """Whether two columns of a relation read the same rows in different ways."""
    ways = {(s.parameter, s.axis, s.width) for column in columns for s in column}
    return len(ways) > len({(parameter, axis) for parameter, axis, _ in ways})
