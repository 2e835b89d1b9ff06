"""Segments: merging keeps every row, in order, whatever interrupts it."""

from __future__ import annotations

import errno
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed import Killed, disk_calls

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records.files import merging
from spherical_motion.records.files import segments as segments_module
from spherical_motion.records.files.segments import (
    FAN_IN,
    SegmentStore,
    current_segments,
    largest_step,
)

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
    monkeypatch.setattr(merging, "MERGE_ROWS", 5)
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
    calls = FAN_IN + 5  # sync the file, link, unlink, sync the name, remove the parts, sync again
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
        assert last_step(store) == FAN_IN - 1
        append(store, FAN_IN)
        assert stored_steps(directory) == twice(range(FAN_IN + 1)), f"resumed after {stop_at}"
        names = {path.name for path in directory.iterdir()}
        assert names == {s.path.name for s in current_segments(directory)}


def test_an_append_killed_at_any_call_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    outcomes = []
    for stop_at in range(4):  # sync the file, link, unlink, sync the name
        directory = tmp_path / str(stop_at)
        directory.mkdir()
        store = open_store(directory)
        append(store, 0)
        with monkeypatch.context() as patch:
            disk_calls(patch, stop_at)
            with pytest.raises(Killed):
                append(store, 1)
        outcomes.append(stored_steps(directory))
    assert outcomes == [[0, 0], [0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_the_last_step_is_the_largest(tmp_path):
    assert last_step(open_store(tmp_path)) == -1
    store = open_store(tmp_path)
    for step in (3, 8, 5):
        append(store, step)
    assert last_step(open_store(tmp_path)) == 8
    assert last_step(open_store(tmp_path), below=8) == 5
    assert last_step(open_store(tmp_path), below=3) == -1


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_part_of_that_name_is_never_replaced(tmp_path, monkeypatch, links):
    store, other = open_store(tmp_path), open_store(tmp_path)
    append(other, 7)
    if not links:
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    with pytest.raises(FileExistsError):
        append(store, 8)
    assert stored_steps(tmp_path) == [7, 7]
    assert not list(tmp_path.glob("*.tmp"))


def test_parts_are_published_where_there_are_no_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    store = open_store(tmp_path)
    for step in range(FAN_IN):
        append(store, step)
    assert store.merge()
    assert stored_steps(tmp_path) == twice(range(FAN_IN))


def test_a_link_in_place_of_a_temporary_file_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("data")
    directory = tmp_path / "table"
    directory.mkdir()
    link = directory / "part-00000000-00000000.parquet.tmp"
    link.symlink_to(target)
    store = open_store(directory)  # what a killed writer left is removed, and not what it names
    assert not link.is_symlink()
    link.symlink_to(target)
    with pytest.raises(RunDirectoryError, match=r"in the way.*a symbolic link"):
        append(store, 0)
    assert target.read_text() == "data"
    assert link.is_symlink()


# Where a run was resumed.


def test_no_merge_crosses_a_resume(tmp_path):
    boundaries = []
    for _ in range(3):
        store = SegmentStore(tmp_path, SCHEMA, ("value",), boundaries=boundaries)
        boundaries.append(store.next_number)
        for step in range(FAN_IN - 1):
            append(store, step)
            assert not store.merge()
    assert len(current_segments(tmp_path)) == 3 * (FAN_IN - 1)


def test_parts_of_before_a_resume_are_merged_among_themselves(tmp_path):
    store = open_store(tmp_path)
    for step in range(FAN_IN + 2):
        append(store, step)
    boundary = store.next_number
    store = SegmentStore(tmp_path, SCHEMA, ("value",), boundaries=[boundary])
    for step in range(FAN_IN - 1):
        append(store, step)
    while store.merge():
        pass
    found = [(s.first, s.last) for s in current_segments(tmp_path) if s.last > s.first]
    assert found == [(2, FAN_IN + 1)]
    assert stored_steps(tmp_path) == twice([*range(FAN_IN + 2), *range(FAN_IN - 1)])


def test_a_number_before_a_resume_is_not_used_again(tmp_path):
    store = SegmentStore(tmp_path, SCHEMA, ("value",), boundaries=[5])
    append(store, 0)
    assert [s.first for s in current_segments(tmp_path)] == [5]


def refuse(number):
    """A function of `os` that fails."""

    def call(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return call


def last_step(store, below=None):
    return max((largest_step(s.path, below) for s in store.segments), default=-1)


def test_the_largest_step_is_read_where_no_statistics_tell_it(tmp_path):
    pq.write_table(pa.table({"step": [3, 9, 5]}), tmp_path / "part", write_statistics=False)
    assert segments_module.largest_step(tmp_path / "part") == 9
    assert segments_module.largest_step(tmp_path / "part", below=9) == 5
    pq.write_table(pa.table({"odd": [3]}), tmp_path / "part")
    with pytest.raises(RunDirectoryError, match="no column step"):
        segments_module.largest_step(tmp_path / "part")
