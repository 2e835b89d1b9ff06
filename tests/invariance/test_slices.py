"""The search over row sums, against structures planted by hand and a slow search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spherical_motion.invariance.running.row_sums import RowSums
from spherical_motion.invariance.search.slices import (
    blocks_of,
    nearly_blocks_of,
    typical_sizes,
    without_noise,
)
from spherical_motion.invariance.search.symmetry import Symmetry, Totals, totals_over
from spherical_motion.vocabulary import Slice

ZERO = 1e-8
PROBES = 3


def planted(lengths: list[int], kinds: list[str], seed: int = 0) -> tuple[RowSums, NDArray]:
    """Row sums of blocks that vanish ("zero"), do not ("free"), or have no gradient ("dead")."""
    rng = np.random.default_rng(seed)
    rows = sum(lengths)
    ww, gg = np.ones((PROBES, rows)), np.ones((PROBES, rows))
    t = rng.normal(size=(PROBES, rows))
    start = 0
    for length, kind in zip(lengths, kinds, strict=True):
        block = slice(start, start + length)
        if kind == "zero":
            t[:, block.stop - 1] -= t[:, block].sum(axis=1)
        elif kind == "dead":
            t[:, block] = gg[:, block] = 0.0
        start += length
    return RowSums(t, ww, gg, entries=5), gg[0] > 0


def ranges(slices: list[Slice]) -> list[tuple[int, int]]:
    return [(s.start, s.stop) for s in slices]


def slow_finest_ranges(rows: RowSums, alive: NDArray) -> list[tuple[int, int]]:
    """All pairs of positions; the shortest vanishing ranges first, without overlaps."""
    taken: list[tuple[int, int]] = []
    for length in range(1, rows.rows + 1):
        for a in range(rows.rows - length + 1):
            b = a + length
            if not (alive[a] and alive[b - 1]):
                continue
            if any(c < b and a < d for c, d in taken):
                continue
            size = np.sqrt((rows.ww[:, a:b] * rows.gg[:, a:b]).sum(axis=1))
            if (np.abs(rows.t[:, a:b].sum(axis=1)) <= ZERO * size).all():
                taken.append((a, b))
    return sorted(taken)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["zero", "zero", "free", "dead"])),
        min_size=2,
        max_size=9,
    )
)
def test_blocks_of_any_size_are_found_as_by_the_slow_search(
    plan: list[tuple[int, str]],
) -> None:
    rows, alive = planted([n for n, _ in plan], [kind for _, kind in plan])
    expected = slow_finest_ranges(rows, alive)
    found = ranges(blocks_of("w", [rows], [alive], ZERO))
    if len(expected) == 1 and alive[slice(*expected[0])].sum() == alive.sum():
        expected = [(0, rows.rows)]
    assert found == expected


def test_heads_are_found_beside_rows_that_are_free() -> None:
    rows, alive = planted([4, 4, 7, 4], ["zero", "zero", "free", "zero"])
    assert ranges(blocks_of("w", [rows], [alive], ZERO)) == [(0, 4), (4, 8), (15, 19)]


def test_one_block_of_all_that_lives_is_the_whole_tensor() -> None:
    rows, alive = planted([2, 6, 3], ["dead", "zero", "dead"])
    assert ranges(blocks_of("w", [rows], [alive], ZERO)) == [(0, 11)]


def test_a_row_without_gradient_is_never_claimed() -> None:
    rows, alive = planted([1, 1, 1], ["zero", "dead", "zero"])
    assert ranges(blocks_of("w", [rows], [alive], ZERO)) == [(0, 1), (2, 3)]


def test_the_axis_that_covers_every_live_row_is_preferred() -> None:
    partly, alive = planted([1, 1, 3], ["zero", "zero", "free"])
    wholly, all_alive = planted([2, 2], ["zero", "zero"])
    found = blocks_of("w", [partly, wholly], [alive, all_alive], ZERO)
    assert {s.axis for s in found} == {1}
    assert ranges(found) == [(0, 2), (2, 4)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ([1, -1, 1], [(0, 2)]),  # the second pair overlaps the first
        ([1, 0, -1, 2], [(1, 2)]),  # a block may not hold an invariant row
        ([1, -1, 2, -2], [(0, 2), (2, 4)]),
    ],
)
def test_blocks_are_disjoint(pattern: list[int], expected: list[tuple[int, int]]) -> None:
    probes = np.random.default_rng(0).normal(size=(PROBES, 1))
    t = probes * np.array(pattern)
    rows = RowSums(t, np.ones_like(t), np.ones_like(t), entries=5)
    alive = np.ones(len(pattern), dtype=bool)
    assert ranges(blocks_of("w", [rows], [alive], ZERO)) == expected


def test_chance_does_not_produce_blocks_among_many_free_rows() -> None:
    rows, alive = planted([20_000], ["free"])
    assert blocks_of("w", [rows], [alive], ZERO) == []


def test_suspects_are_equal_blocks_within_five_percent_of_a_random_vector() -> None:
    rows, alive = planted([4, 4, 4], ["zero"] * 3)
    t = rows.t.copy()
    t[:, ::4] += 0.01  # z = 0.01·√20/4 = 0.011, far above rounding
    near = RowSums(t, rows.ww, rows.gg, rows.entries)
    assert blocks_of("w", [near], [alive], ZERO) == []
    assert ranges(nearly_blocks_of("w", [near], [alive])) == [(0, 4), (4, 8), (8, 12)]
    t[:, 0] += 0.2  # z = 0.23
    far = RowSums(t, rows.ww, rows.gg, rows.entries)
    assert nearly_blocks_of("w", [far], [alive]) == []


def test_rounding_errors_in_one_pass_are_no_evidence_against_a_row() -> None:
    t = np.array([[1e-3, 0.2, 0.3], [1e-16, 0.2, 0.3], [1e-3, 0.0, 0.0]])
    size = np.array([[1.0, 1.0, 1.0], [1e-16, 1.0, 1.0], [1.0, 0.0, 0.0]])
    rows = RowSums(t, np.ones_like(t), size**2, entries=4)
    assert typical_sizes({"w": (rows,)}).tolist() == [1.0, 1.0, 1.0]
    quiet = without_noise({"w": (rows,)}, 1e-12)["w"][0]
    assert quiet.t.tolist() == [[1e-3, 0.2, 0.3], [0.0, 0.2, 0.3], [1e-3, 0.0, 0.0]]
    assert quiet.gg is rows.gg  # a shift in front of a norm is known by them
    nothing = RowSums(0 * t[0], t[0], 0 * t[0], entries=4)
    assert typical_sizes({"w": (nothing,)}) == 0.0


def test_totals_add_over_the_slices_of_a_cell() -> None:
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(2, 6, 5)), rng.normal(size=(2, 6, 1))
    evidence = {
        name: (RowSums((w * 2).sum(-1), (w * w).sum(-1), (w * w * 4).sum(-1), w.shape[-1]),)
        for name, w in (("weight", weight), ("bias", bias))
    }
    cells = [
        Symmetry.scale([Slice("weight", 0, 0, 2), Slice("bias", 0, 0, 2)]),
        Symmetry.scale([Slice("weight", 0, 3, 6)]),
    ]
    totals = totals_over(evidence, cells)
    assert totals.t.shape == (2, 2)
    joined = 2 * (weight[:, :2].sum((1, 2)) + bias[:, :2].sum((1, 2)))
    np.testing.assert_allclose(totals.t[:, 0], joined, rtol=1e-13)
    np.testing.assert_allclose(totals.gg[:, 1], 4 * totals.ww[:, 1], rtol=1e-13)


def test_the_defect_is_a_cosine_and_nan_without_a_gradient() -> None:
    one = np.array([1.0, 1.0])
    totals = Totals(t=-one, ww=4 * one, gg=np.array([1.0, 0.0]), size=np.array([2.0, 0.0]))
    assert totals.defect()[0] == pytest.approx(0.5)
    assert np.isnan(totals.defect()[1])
