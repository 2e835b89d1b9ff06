"""Runs of version 1: they read as they always did, and go on as runs of this version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from killed import Killed, disk_calls
from schema1 import SETTINGS, snapshot, write_schema1

from spherical_motion.records import RunWriter, read, read_info
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.files.segments import current_segments
from spherical_motion.records.writing.continuing import continue_run

VALUES = json.loads((Path(__file__).parent / "schema1_values.json").read_text())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run of version 1."""
    write_schema1(tmp_path / "run")
    return tmp_path / "run"


def resume(directory: Path, **changes: Any) -> RunWriter:
    """A writer that goes on with what the run recorded, with something changed."""
    return RunWriter(directory, dataclasses.replace(read_info(directory), **changes), resume=True)


def assert_unchanged(directory: Path) -> None:
    """Every method returns what the library of the time returned, but for new events."""
    found = snapshot(read(directory))
    found["events"] = [event for event in found["events"] if event["kind"] != "resumed"]
    told = [event for event in VALUES["events"] if event["kind"] != "resumed"]
    assert found.keys() == VALUES.keys()
    for name, value in (VALUES | {"events": told}).items():
        if name != "repr":
            # NaN is equal to itself here, and nothing else is equal but the same number.
            assert json.dumps(found[name]) == json.dumps(value), name


def test_every_method_returns_what_it_returned(old):
    assert_unchanged(old)
    assert snapshot(read(old))["repr"] == VALUES["repr"]
    assert read(old).changes is None


def test_what_is_new_is_known_of_old_runs_too(old):
    records = read(old)
    assert records.info.products == 6
    gram, head = records.gram, records.index("head")
    np.testing.assert_array_equal(gram.wp[:, 0], gram.wg[:, 0] + 5e-4 * gram.ww[:, 0])
    assert np.isnan(gram.wp[:, head]).all()
    assert np.isnan(gram.ws).all()
    np.testing.assert_allclose(
        records.growth(), records.norm_after() ** 2 / records.norm() ** 2 - 1, rtol=1e-9
    )
    assert records.correlations("conv").rho.shape == (0, 0)


def test_an_old_run_goes_on_as_a_new_one(old):
    with resume(old) as writer:
        assert writer.next_step == 30
    assert json.loads((old / "run.json").read_text())["schema_version"] == 2
    assert_unchanged(old)
    assert read(old).changes is not None
    with resume(old) as writer:  # what a new writer would record
        for param_group, values in enumerate([(0.01, 5e-4, 0.5, None), (0.01, 0.0, 0.5, None)]):
            writer.settings(30, param_group, values)
        writer.settings(30, 2, (1e-4, 0.1, 0.9, 0.99))
        writer.settings(31, 2, (1e-5, 0.1, 0.9, 0.99))
        writer.rows(32, np.ones((4, 6)))
    schedule = read(old).schedule("conv")
    assert schedule.lr.tolist() == VALUES["schedule.conv"]["lr"] + [0.01] * 3
    schedule = read(old).schedule("head")
    assert schedule.lr.tolist() == VALUES["schedule.head"]["lr"] + [1e-4, 1e-5, 1e-5]


def test_an_old_run_may_go_on_with_more_products(old):
    with resume(old, products=8) as writer:
        writer.rows(30, np.arange(32.0).reshape(4, 8))
    records = read(old)
    assert records.info.products == 8
    assert records.gram.ws[-1].tolist() == [7.0, 15.0 + 23.0, 31.0]
    assert np.isnan(records.gram.ws[:-1]).all()
    head = records.index("head")
    assert records.gram.wp[-1, head] == 30.0
    assert np.isnan(records.gram.wp[:-1, head]).all()
    np.testing.assert_array_equal(records.gram.wp[:-1, 0], read_wp(VALUES))
    assert records.to_arrow().column_names[8:10] == ["wp", "ws"]


def read_wp(values: dict[str, Any]) -> np.ndarray:
    """<w, g> + λ|w|² of the first group."""
    wg, ww = (np.array(values[f"gram.{name}"])[:, 0] for name in ("wg", "ww"))
    return wg + 5e-4 * ww


def test_merging_old_parts_with_new_ones_loses_no_column(old):
    with resume(old, products=7) as writer:
        for step in range(30, 46):
            writer.settings(step, 0, (0.01 * step, 5e-4, 0.5, None))
            writer.rows(step, np.full((4, 7), float(step)))
            writer.flush()
    with resume(old) as writer:
        writer.settings(46, 0, (0.46, 5e-4, 0.5, None))
        writer.rows(46, np.full((4, 7), 46.0))
    merged = [s.path for s in current_segments(old / "records") if s.last > s.first]
    assert len(merged) == 2
    names = {name for path in merged for name in pq.read_schema(path).names}
    assert names >= {*SETTINGS, "ww", "wp"}  # lr of old rows, wp of new ones
    records = read(old)
    assert records.gram.ww[-17:, 0].tolist() == [float(step) for step in range(30, 47)]
    np.testing.assert_array_equal(records.lr[-17:, 0], [0.01 * step for step in range(30, 47)])
    found = snapshot(records)
    for name in ("gram.ww", "slice_gram.dg", "lr", "beta2"):
        assert json.dumps(found[name][:16]) == json.dumps(VALUES[name]), name


def test_bringing_a_run_to_this_version_may_be_killed_at_any_call(tmp_path, monkeypatch):
    # Settings: sync the folder and the file, link, unlink, sync the name. `run.json`: remove what
    # was left, sync, rename, sync the name.
    calls = 9
    for stop_at in range(calls + 1):
        directory = tmp_path / str(stop_at)
        write_schema1(directory)
        run, info = RunDirectory(directory), read_info(directory)
        with monkeypatch.context() as patch:
            made = disk_calls(patch, stop_at)
            if stop_at == calls:
                assert continue_run(run, info) == 0
                assert len(made) == calls
            else:
                with pytest.raises(Killed):
                    continue_run(run, info)
        assert_unchanged(directory)
        resume(directory).close()
        assert_unchanged(directory)
        assert json.loads((directory / "run.json").read_text())["schema_version"] == 2
        assert len(list((directory / "settings").iterdir())) == 1
