"""Rows to arrays: the fast path and the general one against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from spherical_motion.records.dense import arrange, latest

WIDTH = 3


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, WIDTH - 1)), max_size=40))
@example([(s, c) for s in (0, 2, 5) for c in range(WIDTH)])
@example([(s, c) for s in (3, 3) for c in range(WIDTH)])
@example([(0, 0), (1, 1), (2, 2)])
def test_the_later_row_of_a_pair_counts(pairs):
    step = np.array([s for s, _ in pairs], dtype=np.int64)
    column = np.array([c for _, c in pairs], dtype=np.int32)
    values = np.arange(len(pairs), dtype=np.float64)

    table: dict[tuple[int, int], float] = {}
    for pair, value in zip(pairs, values, strict=True):
        table[pair] = value
    steps = sorted({s for s, _ in pairs})
    expected = [[table.get((s, c), np.nan) for c in range(WIDTH)] for s in steps]

    layout = arrange(step, column, WIDTH)
    assert layout.steps.tolist() == steps
    np.testing.assert_array_equal(
        layout.spread(values), np.array(expected, dtype=np.float64).reshape(-1, WIDTH)
    )


def test_whole_steps_in_order_are_not_copied():
    step, column = np.repeat(np.arange(5), WIDTH), np.tile(np.arange(WIDTH), 5)
    values = np.arange(15.0)
    assert np.shares_memory(arrange(step, column, WIDTH).spread(values), values)


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_latest_is_what_a_dict_keeps(keys):
    kept = {key: i for i, key in enumerate(keys)}
    expected = [kept[key] for key in sorted(kept)]
    assert latest(np.array(keys, dtype=np.int64)).tolist() == expected
