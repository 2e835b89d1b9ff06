"""Where rows go: rectangles and loose rows against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spherical_motion.records.dense import latest
from spherical_motion.records.reading.pieces import (
    LooseRows,
    Rectangle,
    lines_of,
    mark,
    pieces_of,
    put,
)

WIDTH = 3

BY_STEP = [(s, c) for s in (0, 2, 5) for c in range(WIDTH)]
BY_SLICE = [(s, c) for c in range(WIDTH) for s in (0, 2, 5)]

pairs_of_rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, WIDTH - 1)), max_size=40)


def columns(pairs):
    step = np.array([s for s, _ in pairs], dtype=np.int64)
    return step, np.array([c for _, c in pairs], dtype=np.int32)


@given(
    pairs_of_rows,
    st.lists(st.integers(0, WIDTH - 1), unique=True, min_size=1),
    st.one_of(st.none(), st.integers(0, 6)),
)
@example(BY_STEP, [0, 1, 2], None)
@example(BY_SLICE, [2, 0], None)
@example(BY_SLICE, [1], 5)
@example([(3, c) for c in (2, 2)] + BY_STEP[1:] + BY_SLICE, [0, 2], 3)
def test_each_value_is_where_a_dict_would_have_it(pairs, chosen, limit):
    """The later row of a pair counts; steps from the limit on and other slices do not."""
    step, which = columns(pairs)
    values = np.arange(len(pairs), dtype=np.float64)
    steps = np.array(sorted({s for s, _ in pairs if s != 1}), dtype=np.int64)  # 1 is not known

    table = {
        pair: value
        for pair, value in zip(pairs, values, strict=True)
        if limit is None or pair[0] < limit
    }
    expected = [[table.get((s, c), np.nan) for s in steps.tolist()] for c in chosen]

    places = np.full(WIDTH, -1)
    places[chosen] = np.arange(len(chosen))
    found = np.full((len(chosen), len(steps)), np.nan)
    marked = np.zeros(found.shape, dtype=bool)
    for piece in pieces_of(step, which):
        lines = lines_of(piece.steps, steps, limit)
        put(piece, values, found, places, lines)
        mark(piece, marked, places, lines)
    np.testing.assert_array_equal(found, np.array(expected).reshape(found.shape))
    np.testing.assert_array_equal(marked, ~np.isnan(found))


@given(pairs_of_rows)
def test_every_row_is_in_one_piece(pairs):
    step, which = columns(pairs)
    end = 0
    for piece in pieces_of(step, which):
        assert piece.start == end
        end += piece.rows
        if isinstance(piece, Rectangle):
            for values, expected in ((step, piece.steps[None]), (which, piece.slices[:, None])):
                assert (piece.of(values) == expected).all()
    assert end == len(pairs)


@pytest.mark.parametrize("pairs", [BY_STEP, BY_SLICE])
def test_whole_steps_are_one_rectangle_in_either_order(pairs):
    (piece,) = pieces_of(*columns(pairs))
    assert isinstance(piece, Rectangle)
    assert (piece.slices.tolist(), piece.steps.tolist()) == ([0, 1, 2], [0, 2, 5])


def test_a_row_group_that_begins_and_ends_within_a_step_is_three_rectangles():
    pieces = pieces_of(*columns(BY_STEP[1:-1]))
    assert [piece.rows for piece in pieces] == [2, 3, 2]


def test_rows_without_order_are_loose():
    rng = np.random.default_rng(0)
    (piece,) = pieces_of(rng.integers(0, 50, 1000), rng.integers(0, 50, 1000))
    assert isinstance(piece, LooseRows)


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_latest_is_what_a_dict_keeps(keys):
    kept = {key: i for i, key in enumerate(keys)}
    expected = [kept[key] for key in sorted(kept)]
    assert latest(np.array(keys, dtype=np.int64)).tolist() == expected
