"""Settings at each step, from the table of their changes, against a plain dict."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from given import give
from hypothesis import given, settings
from hypothesis import strategies as st

from spherical_motion.records import RunInfo, RunWriter, read
from spherical_motion.records.schema import SETTINGS
from spherical_motion.records.settings import SettingsOfChanges, lasting
from spherical_motion.vocabulary import InvariantGroup, Slice


class ObviousRun:
    """A run that keeps the settings of every step in a dict, and lists only their changes."""

    def __init__(self, param_groups: int) -> None:
        self.told: dict[tuple[int, int], tuple[float, ...]] = {}
        self.changes: list[tuple[float, ...]] = []
        self.param_groups = param_groups

    def branch(self, first: int, rates: list[int]) -> None:
        """Go back or on to step `first`, and take a step at each of `rates`."""
        self.told = {key: values for key, values in self.told.items() if key[0] < first}
        now: dict[int, tuple[float, ...]] = {}
        for step, rate in enumerate(rates, start=first):
            for group in range(self.param_groups):
                values = (float(rate), 0.1 * rate, 0.9, float(group))
                values = values if group == 0 else (1.0 + rate // 2, 0.0, 0.5, float(group))
                self.told[step, group] = values
                if now.get(group) != values:
                    self.changes.append((step, group, *values))
                    now[group] = values

    def columns(self) -> dict[str, np.ndarray]:
        table = np.array(self.changes, np.float64).reshape(-1, 6)
        names = ("step", "param_group", *SETTINGS)
        types = {"step": np.int64, "param_group": np.int32}
        return {n: table[:, i].astype(types.get(n, np.float64)) for i, n in enumerate(names)}


@st.composite
def runs(draw: st.DrawFn) -> ObviousRun:
    run, stop = ObviousRun(draw(st.integers(1, 3))), 0
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, stop))
        rates = draw(st.lists(st.integers(0, 3), min_size=1, max_size=8))
        run.branch(first, rates)
        stop = first + len(rates)
    return run


@settings(deadline=None)
@given(runs(), st.integers(1, 3))
def test_each_step_has_the_settings_of_the_branch_that_lasted(run, every):
    steps = sorted({step for step, _ in run.told})
    assert steps == list(range(steps[0], steps[-1] + 1))
    sampled = np.array(steps[::every], np.int64)
    info = info_of([group % run.param_groups for group in range(3)])
    found = SettingsOfChanges(run.columns(), SimpleNamespace(steps=sampled, present=None), info)
    for place, name in enumerate(SETTINGS):
        for number, group in enumerate(info.slice_param_group):
            expected = [run.told[step, group][place] for step in sampled]
            assert found.at_samples(name, range(3))[:, number].tolist() == expected
            between = range(sampled[0], sampled[-1] + 1)
            expected = [run.told[step, group][place] for step in between]
            assert found.at_each_step(name, number, sampled).tolist() == expected
    differ = (
        tuple(dict.fromkeys(run.told[step, group][:3] for group in info.slice_param_group))
        for step in range(sampled[0], sampled[-1] + 1)
    )
    assert found.differing(range(3)) == next((d for d in differ if len(d) > 1), ())


@given(st.lists(st.integers(0, 6), max_size=12))
def test_a_row_lasts_unless_the_run_went_back_behind_it(steps):
    expected = [all(later > step for later in steps[i + 1 :]) for i, step in enumerate(steps)]
    assert lasting(np.array(steps, np.int64)).tolist() == expected


def info_of(slice_param_group: list[int]) -> RunInfo:
    slices = [Slice(f"layer{i}.weight", 0, 0, 4) for i in range(len(slice_param_group))]
    sgd = {"class": "SGD", "optimizer": 0, "lr": 0.1}
    return RunInfo(
        groups=tuple(InvariantGroup(s.parameter, "scale", (s,), ((s,),), 4) for s in slices),
        param_groups=(sgd,) * (max(slice_param_group) + 1),
        slice_param_group=tuple(slice_param_group),
    )


def test_settings_that_nobody_recorded_are_unknown(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        writer.settings(5, 0, (0.1, 0.0, 0.9, None))
        for step in (3, 7):
            writer.rows(step, np.ones((3, 6)))
    records = read(tmp_path)
    np.testing.assert_array_equal(records.lr, [[np.nan] * 2, [0.1, 0.1]])
    assert records.schedule("conv").start == 7
    assert np.isnan(records.settings.at_samples("lr", [2])).all()


def test_the_later_record_of_a_step_counts(tmp_path, info, settings):
    with RunWriter(tmp_path, info) as writer:
        give(writer, 0, settings)
        give(writer, 0, 2 * settings)  # a step that was skipped, and taken at another rate
        writer.rows(0, np.ones((3, 6)))
    assert read(tmp_path).lr[0].tolist() == [0.2, 0.2]


def test_settings_of_a_branch_that_was_given_up_do_not_count(tmp_path, info):
    def go(first: int, stop: int, rate: float, **options: object) -> None:
        with RunWriter(tmp_path, info, **options) as writer:
            give(writer, first, [(rate, 0.0, 0.9, None)] * 2)
            for step in range(first, stop):
                if step == first + 6:
                    give(writer, step, [(10 * rate, 0.0, 0.9, None)] * 2)
                writer.rows(step, np.ones((3, 6)))

    go(0, 10, 1.0)
    go(4, 8, 2.0, resume=True, first_step=4)
    records = read(tmp_path)
    assert records.steps.tolist() == list(range(8))
    assert records.lr[:, 0].tolist() == [1.0] * 4 + [2.0] * 4
    assert read(tmp_path, branch=0).lr[:, 0].tolist() == [1.0] * 6 + [10.0] * 4


def test_a_resume_may_divide_the_slices_into_other_param_groups(tmp_path, info, make_info):
    slow = dict(info.param_groups[0], lr=0.001)
    other = make_info(param_groups=(slow, *info.param_groups), slice_param_group=(1, 0, 2))
    with RunWriter(tmp_path, info) as writer:
        give(writer, 0, [(1.0, 0.0, 0.9, None), (2.0, 0.0, 0.9, None)])
        for step in range(6):
            writer.rows(step, np.ones((3, 6)))
    for first in (4, 5):  # twice the same, which is described once
        with RunWriter(tmp_path, other, resume=True, first_step=first) as writer:
            give(writer, first, [(lr, 0.0, 0.9, None) for lr in (10.0, 20.0, 30.0)])
            writer.rows(first, np.ones((3, 6)))
    with RunWriter(tmp_path, info, resume=True, first_step=6) as writer:
        give(writer, 6, [(3.0, 0.0, 0.9, None), (4.0, 0.0, 0.9, None)])
        writer.rows(6, np.ones((3, 6)))
    records = read(tmp_path)
    per_slice = records.settings.at_samples("lr", range(3))
    assert per_slice.T.tolist() == [
        [1.0] * 4 + [20.0, 20.0, 3.0],
        [1.0] * 4 + [10.0, 10.0, 3.0],
        [2.0] * 4 + [30.0, 30.0, 4.0],
    ]
    assert records.info.regrouped == ((3, 2, 4),)
    assert records.info.slice_param_group == info.slice_param_group
    assert RunInfo.from_json(records.info.to_json()) == records.info
    assert records.mixed["fc"] == ((1.0, 0.0, 0.9), (2.0, 0.0, 0.9))
    assert records.schedule("conv").lr.tolist() == [1.0] * 4 + [20.0, 20.0, 3.0]


@pytest.mark.parametrize("first", [6, 7, 8])
@pytest.mark.parametrize("second", [6, 7, 8])
def test_the_number_of_products_may_change_when_a_run_is_resumed(tmp_path, first, second):
    directory = tmp_path / "run"
    info = dataclasses.replace(info_of([0, 0]), products=first)
    with RunWriter(directory, info) as writer:
        writer.rows(0, np.arange(2.0 * first).reshape(2, first))
    info = dataclasses.replace(info, products=second)
    with RunWriter(directory, info, resume=True) as writer:
        writer.rows(1, np.arange(2.0 * second).reshape(2, second))
    records = read(directory)
    assert records.info.products == max(first, second)
    found = records.slice_gram.to_array(("ww", "wd", "dd", "wg", "gg", "dg", "ws"))
    for row, products in enumerate((first, second)):
        assert found[row, :, :6].tolist() == [[*range(6)], [*range(products, products + 6)]]
        known = [7.0, 15.0] if products == 8 else [np.nan] * 2
        np.testing.assert_array_equal(found[row, :, 6], known)


@pytest.mark.parametrize(
    "bad",
    [
        {"param_group": 2},
        {"param_group": -1},
        {"param_group": None},
        {"values": (0.1, 0.0)},
        {"values": ("fast", 0.0, 0.0, 0.0)},
        {"values": 0.1},
        {"step": None},
    ],
)
def test_a_mistake_in_settings_stops_recording_not_training(tmp_path, info, bad):
    writer = RunWriter(tmp_path, info)
    with pytest.warns(match="was given"):
        writer.settings(**({"step": 0, "param_group": 0, "values": (0.1, 0, 0, None)} | bad))
    writer.close()
