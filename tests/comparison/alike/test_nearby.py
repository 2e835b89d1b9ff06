"""Motions of single groups are read with their neighbours, and never all of a large run."""

from __future__ import annotations

import numpy as np
import pytest
from faulty import sgd

from spherical_motion import records
from spherical_motion.comparison import compare
from spherical_motion.comparison.motion import motion_of
from spherical_motion.comparison.whole.nearby import NearbyMotions

SETTINGS = [(0.1, 5e-3, 0.9)] * 60


@pytest.fixture
def run(write_run) -> records.Records:
    values = {f"g{i}": sgd(SETTINGS, seed=i) for i in range(7)}
    return records.read(write_run(values, SETTINGS))


@pytest.mark.parametrize("limit", [1, 8 * 8 * 60 * 3, 1 << 30])
@pytest.mark.parametrize("order", [range(7), (5, 6, 2, 2, 3, 4, 0, 6)])
def test_any_order_and_any_limit_give_the_motion(run, limit, order) -> None:
    nearby = NearbyMotions(run, limit)
    for index in order:
        found, alone = nearby.of(index), motion_of(run, index)
        assert found.group == alone.group
        assert np.array_equal(found.turned, alone.turned, equal_nan=True)


def test_who_goes_through_the_run_reads_each_group_once(run) -> None:
    asked: list[tuple[str, ...]] = []

    class Counted(NearbyMotions):
        def _read(self, index: int, count: int) -> None:
            super()._read(index, count)
            asked.append(self._block.groups)

    nearby = Counted(run, 8 * 8 * 60 * 3)
    for index in range(7):
        nearby.of(index)
    assert [name for names in asked for name in names] == [f"g{i}" for i in range(7)]
    assert max(map(len, asked)) == 3
    nearby.of(4)
    assert asked[-1] == ("g4",)


def test_rows_of_a_group_are_found_by_its_name(run) -> None:
    found = compare(run)
    assert [found[name].group for name in found.groups] == list(found.groups)
    assert len(found.curves("g6").steps) == 60
