"""Segments: merging keeps every row, in order, whatever interrupts it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed import Killed, disk_calls

from spherical_motion.records.files import segments as segments_module
from spherical_motion.records.files.segments import FAN_IN, SegmentStore, current_segments

SCHEMA = pa.schema([("step", pa.int64()), ("value", pa.float64())])


def open_store(directory):
    return SegmentStore(directory, SCHEMA, noise=("value",))


def append(store, step, rows=2):
    store.append(pa.table([[step] * rows, [float(step)] * rows], schema=SCHEMA))


def stored_steps(directory):
    tables = [pq.read_table(s.path) for s in current_segments(directory)]
    return pa.concat_tables(tables)["step"].to_pylist() if tables else []


def twice(steps):
    return [s for s in steps for _ in range(2)]


def test_a_long_run_leaves_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(segments_module, "FAN_IN", 4)
    store = open_store(tmp_path)
    flushes = 2 * 4**3 + 3 * 4**2 + 0 * 4 + 1
    for step in range(flushes):
        append(store, step)
        while store.merge():
            pass
    assert len(list(tmp_path.iterdir())) == 2 + 3 + 0 + 1
    assert stored_steps(tmp_path) == twice(range(flushes))


def test_merged_rows_are_grouped_however_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(segments_module, "MERGE_ROWS", 5)
    store = open_store(tmp_path)
    for step in range(FAN_IN):
        append(store, step)
    assert store.merge()
    (segment,) = current_segments(tmp_path)
    metadata = pq.ParquetFile(segment.path).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [6] * 5 + [2]
    assert stored_steps(tmp_path) == twice(range(FAN_IN))


def test_segments_that_are_large_enough_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(segments_module, "LARGEST_MERGE", 1000)
    store = open_store(tmp_path)
    for step in range(FAN_IN):
        append(store, step)
    assert not store.merge()
    assert len(current_segments(tmp_path)) == FAN_IN


def test_a_merge_killed_at_any_call_loses_and_doubles_nothing(tmp_path, monkeypatch):
    calls = FAN_IN + 4  # sync the file, rename, sync the name, remove the parts, sync again
    for stop_at in range(calls + 1):
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        store = open_store(directory)
        for step in range(FAN_IN):
            append(store, step)

        with monkeypatch.context() as patch:
            made = disk_calls(patch, stop_at)
            if stop_at == calls:
                assert store.merge()
                assert len(made) == calls
            else:
                with pytest.raises(Killed):
                    store.merge()
        assert stored_steps(directory) == twice(range(FAN_IN)), f"read after call {stop_at}"

        store = open_store(directory)
        assert store.last_step == FAN_IN - 1
        append(store, FAN_IN)
        assert stored_steps(directory) == twice(range(FAN_IN + 1)), f"resumed after {stop_at}"
        names = {path.name for path in directory.iterdir()}
        assert names == {s.path.name for s in current_segments(directory)}


def test_an_append_killed_at_any_call_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    outcomes = []
    for stop_at in range(3):
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        store = open_store(directory)
        append(store, 0)
        with monkeypatch.context() as patch:
            disk_calls(patch, stop_at)
            with pytest.raises(Killed):
                append(store, 1)
        outcomes.append(stored_steps(directory))
    assert outcomes == [[0, 0], [0, 0], [0, 0, 1, 1]]


def test_the_last_step_is_the_largest(tmp_path):
    assert open_store(tmp_path).last_step == -1
    store = open_store(tmp_path)
    for step in (3, 8, 5):
        append(store, step)
    assert open_store(tmp_path).last_step == 8
