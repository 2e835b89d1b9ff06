"""The reader: arrays that mean what they say, at any moment of a run's life."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from given import give

from spherical_motion import sphere
from spherical_motion.errors import InvalidArgument, MissingExtra, NotARun, RunDirectoryError
from spherical_motion.records import RunWriter, read
from spherical_motion.records import parts as parts_module
from spherical_motion.vocabulary import EventKind, Gram, InvariantGroup, Slice


@pytest.fixture
def run(tmp_path, info, settings, rng):
    """Ten steps of it, and the products that went in, (10, 3, 6)."""
    w, d, g = rng.normal(size=(3, 10, 3, 5))
    pairs = ((w, w), (w, d), (d, d), (w, g), (g, g), (d, g))
    grams = np.stack([(a * b).sum(-1) for a, b in pairs], axis=-1)
    with RunWriter(tmp_path / "run", info) as writer:
        give(writer, 0, settings)
        for step, gram in enumerate(grams):
            writer.rows(step, gram)
    return tmp_path / "run", grams


def test_slices_are_summed_into_groups(run):
    directory, grams = run
    records = read(directory)
    assert records.groups == ("conv", "fc")
    assert records.gram.shape == (10, 2)
    np.testing.assert_array_equal(records.gram.to_array()[:, 0], grams[:, 0])
    np.testing.assert_allclose(records.gram.to_array()[:, 1], grams[:, 1] + grams[:, 2], rtol=1e-15)


def test_groups_that_share_slices_are_summed_all_the_same(tmp_path, make_info, info, rng):
    conv, fc = info.groups
    pair = InvariantGroup("pair", "rescale", fc.slices[:1] + conv.slices, (), numel=100)
    gram = rng.normal(size=(3, 6))
    with RunWriter(tmp_path, make_info(groups=(*info.groups, pair))) as writer:
        writer.rows(0, gram)
    expected = [gram[0], gram[1] + gram[2], gram[1] + gram[0]]
    np.testing.assert_allclose(read(tmp_path).gram.to_array()[0], expected, rtol=1e-15)


def test_figures_are_those_of_the_summed_products(run):
    directory, grams = run
    records = read(directory)
    gram = Gram.from_array(np.stack([grams[:, 0], grams[:, 1] + grams[:, 2]], axis=1))
    for name in ("angle", "norm", "norm_after", "unit_gradient_norm", "defect"):
        expected = getattr(sphere, name)(gram)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(getattr(records, name)(), expected, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(records.effective_lr(), 0.1 / gram.ww, rtol=1e-12)


def test_a_group_with_a_slice_that_was_not_measured_is_nan(tmp_path, info, rng):
    with RunWriter(tmp_path, info) as writer:
        writer.rows(0, rng.normal(size=(3, 6)))
        writer.rows(1, rng.normal(size=(2, 6)), slices=[0, 1])
    gram = read(tmp_path).gram
    assert np.isnan(gram.ww).tolist() == [[False, False], [False, True]]


def test_arrays_are_made_once_and_cannot_be_changed(run):
    records = read(run[0])
    assert records.gram is records.gram
    for array in (records.gram.ww, records.slice_gram.dg, records.lr, records.momentum):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0


def test_mixed_settings_are_named_with_their_values(run):
    assert read(run[0]).mixed == {"fc": ((0.1, 5e-4, 0.9), (0.1, 0.0, 0.9))}
    assert read(run[0]).weight_decay[0].tolist() == [5e-4, 5e-4]


def test_groups_that_agree_are_not_mixed(tmp_path, info, settings, rng):
    settings[1] = settings[0]
    with RunWriter(tmp_path, info) as writer:
        give(writer, 0, settings)
        writer.rows(0, rng.normal(size=(3, 6)))
        give(writer, 1, settings / 2)
        writer.rows(1, rng.normal(size=(2, 6)), slices=[0, 1])
        give(writer, 5, settings * [[1], [2]])  # after the last row
    assert read(tmp_path).mixed == {}


def test_a_run_without_rows_is_empty_not_wrong(tmp_path, info):
    RunWriter(tmp_path, info).close()
    records = read(tmp_path)
    assert records.gram.shape == records.lr.shape == records.angle().shape == (0, 2)
    assert records.mixed == {}
    assert records.to_arrow().num_rows == 0
    assert repr(records) == f"Records({str(tmp_path)!r}: 2 groups, 0 steps, 0 events)"
    with pytest.raises(InvalidArgument, match="Nothing is recorded of group 'fc'"):
        records.schedule("fc")


def test_repr_says_how_much_there_is(run):
    assert repr(read(run[0])).endswith("2 groups, 10 steps from 0 to 9, 0 events)")


def test_an_unknown_group_is_answered_with_the_nearest(run):
    records = read(run[0])
    assert records.index("fc") == 1
    with pytest.raises(InvalidArgument, match="Close to it: conv"):
        records.index("conv1")
    with pytest.raises(InvalidArgument, match="There are: conv, fc"):
        records.index("zzz")


def test_tables_hold_what_the_arrays_hold(run):
    records = read(run[0])
    table = records.to_arrow()
    columns = "step group ww wd dd wg gg dg lr weight_decay momentum beta2"
    assert table.column_names == columns.split()
    assert table["group"].to_pylist()[:3] == ["conv", "fc", "conv"]
    frame = records.to_pandas()
    pivot = frame.pivot(index="step", columns="group", values="dg")
    np.testing.assert_array_equal(pivot[["conv", "fc"]].to_numpy(), records.gram.dg)


def test_without_pandas_the_remedy_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'spherical-motion\[pandas\]'"):
        read(run[0]).to_pandas()


def test_scalars_are_in_order_and_the_later_value_wins(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        for step, loss in [(0, 3.0), (2, 1.0), (1, 2.0), (2, 0.5)]:
            writer.scalars(step, {"loss": loss})
            writer.flush()
        writer.scalars(7, {"accuracy": float("nan")})
    scalars = read(tmp_path).scalars
    assert list(scalars) == ["accuracy", "loss"]
    assert scalars["loss"].steps.tolist() == [0, 1, 2]
    assert scalars["loss"].values.tolist() == [3.0, 2.0, 0.5]
    assert np.isnan(scalars["accuracy"].values).all()


# The schedule.


def record_rates(directory, info, rates, events=()):
    with RunWriter(directory, info) as writer:
        for step, lr in rates:
            give(writer, step, [(lr, lr / 10, 0.9, None)] * 2)
            writer.rows(step, np.ones((3, 6)))
        for event in events:
            writer.own_event(EventKind.RATE_CHANGED, **event)
    return read(directory)


def test_values_hold_until_the_next_sample(tmp_path, info):
    schedule = record_rates(tmp_path, info, [(3, 1.0), (6, 0.5), (7, 0.25)]).schedule("conv")
    assert schedule.start == 3
    assert schedule.lr.tolist() == [1.0, 1.0, 1.0, 0.5, 0.25]
    assert schedule.weight_decay.tolist() == [0.1, 0.1, 0.1, 0.05, 0.025]
    assert schedule.at(5).optimizer == "sgd"


def test_a_change_between_samples_is_read_at_its_own_step(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        for step in range(3, 10):
            rate = 1.0 if step < 5 else 0.5 if step != 8 else 0.125
            give(writer, step, [(rate, 0.1 * rate, 0.9, None), (9.0, 0.0, 0.0, None)])
            if step % 3 == 0:
                writer.rows(step, np.ones((3, 6)))
        give(writer, 99, [(9.0, 9.0, 0.0, None)] * 2)  # after the last sample
    schedule = read(tmp_path).schedule("conv")
    assert (schedule.start, schedule.lr.tolist()) == (3, [1.0, 1.0, 0.5, 0.5, 0.5, 0.125, 0.5])
    assert schedule.weight_decay.tolist() == [0.1 * lr for lr in schedule.lr]
    assert read(tmp_path).lr[:, 0].tolist() == [1.0, 0.5, 0.5]


def test_a_step_at_which_the_group_was_not_measured_does_not_count(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        for step, which in [(0, 1), (1, 0), (3, 0), (4, 1)]:
            writer.settings(step, 0, (1 / (step + 1), 0.0, 0.9, None))
            writer.rows(step, np.ones((1, 6)), slices=[which])
    records = read(tmp_path)
    assert records.schedule("conv").lr.tolist() == [0.5, 0.5, 0.25]
    np.testing.assert_array_equal(records.lr[:, 0], [np.nan, 0.5, 0.25, np.nan])


# Directories that are not runs, or damaged ones.


@pytest.mark.parametrize("name", ["absent", "empty", "file", "file/below"])
def test_a_place_without_a_run_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NotARun, match=f"{tmp_path / name} holds no run"):
        read(tmp_path / name)


def test_a_run_of_a_newer_version_is_refused_by_name(run):
    path = run[0] / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(NotARun, match=rf"{path} has schema version 99"):
        read(run[0])


def test_a_run_json_of_other_bytes_is_damaged(run):
    (run[0] / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(NotARun, match="damaged"):
        read(run[0])


def test_a_damaged_segment_is_named(run):
    (segment,) = (run[0] / "records").iterdir()
    segment.write_bytes(segment.read_bytes()[:-10])
    with pytest.raises(RunDirectoryError, match=rf"{segment} is damaged"):
        read(run[0], strict=True)


def test_directories_may_be_copied_without_their_empty_parts(run):
    (run[0] / "scalars").rmdir()
    records = read(run[0])
    assert (len(records.steps), records.events, dict(records.scalars)) == (10, (), {})


# While it is written, and after a kill.


def test_segments_merged_behind_the_readers_back_are_found(tmp_path, info, monkeypatch):
    directory = tmp_path
    with RunWriter(directory, info) as writer:
        for step in range(15):
            writer.rows(step, np.ones((3, 6)))
            writer.flush()
        opened = []
        real_open = parts_module._open

        def open_slowly(segment, content):
            opened.append(segment)
            if len(opened) == 3:  # now the sixteenth segment, and all are merged into one
                writer.rows(15, np.ones((3, 6)))
                writer.flush()
                while segment.path.exists():
                    time.sleep(0.01)
            return real_open(segment, content)

        monkeypatch.setattr(parts_module, "_open", open_slowly)
        assert read(directory).steps.tolist() == list(range(16))
    assert len(opened) < 8


def test_a_listing_that_misses_both_ends_of_a_merge_is_not_believed(run, monkeypatch):
    """Directory order is arbitrary: the merged file may come up too late, its parts too early."""
    real = parts_module.current_segments
    listings = []

    def torn_at_first(directory):
        listings.append(directory)
        return real(directory) if len(listings) > 1 else []

    monkeypatch.setattr(parts_module, "current_segments", torn_at_first)
    assert len(read(run[0]).steps) == 10


def test_files_that_keep_vanishing_are_an_error_not_a_loop(run, monkeypatch):
    def vanish(segment, content):
        raise FileNotFoundError(segment.path)

    monkeypatch.setattr(parts_module, "_open", vanish)
    with pytest.raises(RunDirectoryError, match="vanished"):
        read(run[0])


WRITE_FOR_EVER = """
import itertools, sys, numpy as np
from spherical_motion.records import RunInfo, RunWriter
info = RunInfo.from_json(open(sys.argv[1]).read())
writer = RunWriter(sys.argv[2], info, flush_seconds=3600, resume="resume" in sys.argv)
for step in itertools.count(writer.next_step):
    for param_group in (0, 1):
        writer.settings(step, param_group, (step + 1.0, 0.5, 0.5, None))
    writer.rows(step, np.full((3, 6), float(step)))
    writer.scalars(step, {"loss": step})
    writer.event("tick", step=step)
    if step % 3 == 0:
        writer.flush()
        print(step, flush=True)
"""


def start_writing(info_file: Path, directory: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, info_file, directory, *options],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_reading_while_writing_and_after_kills(tmp_path, info):
    """Two lives, both killed: every read is a prefix, and what was flushed is in it.

    A kill within a flush may lose its rows alone; then the run goes on after its scalars.
    """
    info_file, directory = tmp_path / "info.json", tmp_path / "run"
    info_file.write_text(info.to_json())
    known = np.arange(0)
    next_step = 0
    for life in range(2):
        process = start_writing(info_file, directory, *(["resume"] if life else []))
        assert process.stdout is not None
        lengths = []
        try:
            for line in process.stdout:
                flushed = int(line)
                records = read(directory)
                check_prefix(records, known, next_step, flushed)
                lengths.append(len(records.steps))
                if len(lengths) >= 40:
                    break
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait(30)
        assert lengths[0] >= len(known)
        assert lengths == sorted(lengths)
        records = read(directory)
        check_prefix(records, known, next_step, flushed)
        known = records.steps
        next_step = int(max(known[-1], records.scalars["loss"].steps[-1])) + 1
        assert next_step - 1 - known[-1] <= 3  # what one flush holds
    with RunWriter(directory, info, resume=True) as writer:
        assert writer.next_step == next_step
    resumed = [event["step"] for event in read(directory).events if event["kind"] == "resumed"]
    assert len(resumed) == 2
    assert resumed[-1] == next_step
    merged = [p.name for p in (directory / "records").iterdir() if p.name[5:13] != p.name[14:22]]
    assert merged  # reading went on while segments were merged


def check_prefix(records, known, resumed_at, flushed):
    """The rows known, then all steps from `resumed_at` to `flushed` or later, unchanged."""
    steps = np.append(known, resumed_at + np.arange(len(records.steps) - len(known)))
    assert steps[-1] >= flushed
    np.testing.assert_array_equal(records.steps, steps)
    expected = np.broadcast_to(steps[:, None, None], (len(steps), 3, 6))
    np.testing.assert_array_equal(records.slice_gram.to_array(), expected)
    np.testing.assert_array_equal(records.lr, np.stack([steps + 1.0] * 2, axis=1))
    np.testing.assert_array_equal(
        records.scalars["loss"].steps[: flushed + 1], np.arange(flushed + 1)
    )
    assert sum(event["kind"] == "tick" for event in records.events) >= flushed + 1


@pytest.mark.slow
def test_a_long_run_is_read_in_seconds(tmp_path, make_info):
    """53 layers at 90,000 steps: 4.8 million rows, against reading the same bytes plainly."""
    layers, steps = 53, 90_000
    slices = [Slice(f"layer{i}.weight", 0, 0, 64) for i in range(layers)]
    groups = tuple(InvariantGroup(s.parameter, "scale", (s,), ((s,),), 1) for s in slices)
    gram = np.random.default_rng(0).normal(size=(layers, 6))
    with RunWriter(tmp_path, make_info(groups=groups, slice_param_group=(0,) * layers)) as writer:
        for step in range(steps):
            writer.settings(step, 0, (1 - step / steps, 0.1, 0.9, None))
            writer.rows(step, gram)
    started = time.perf_counter()
    for path in sorted((tmp_path / "records").iterdir()):
        pq.read_table(path)
    plainly = time.perf_counter() - started
    started = time.perf_counter()
    records = read(tmp_path)
    assert records.gram.shape == records.lr.shape == (steps, layers)
    assert time.perf_counter() - started < 5 * plainly + 2
