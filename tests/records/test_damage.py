"""Damaged files are named, and nothing that was added later is mistaken for damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from given import give

from spherical_motion.errors import NotARun, RunDirectoryError
from spherical_motion.records import Records, RunWriter, read
from spherical_motion.records.files.checksum import MARK, seal, verify
from spherical_motion.records.files.segments import FAN_IN

TABLES = ("records", "settings", "scalars")


@pytest.fixture
def run(tmp_path: Path, info, rng) -> Path:
    """A run with one part in each table."""
    directory = tmp_path / "run"
    with RunWriter(directory, info) as writer:
        write(writer, range(30), rng)
        writer.cells(0, 0, np.ones((1, 6)))
        writer.correlation(0, 0, [1.0, 0.5], 2.0)
    return directory


def write(writer: RunWriter, steps: range, rng: np.random.Generator) -> None:
    for step in steps:
        give(writer, step, [(1.0 / (step + 1), 0.1, 0.9, None)] * 2)
        writer.rows(step, rng.normal(size=(3, 6)))
        writer.scalars(step, {"loss": step})


def part(directory: Path, table: str) -> Path:
    (path,) = (directory / table).iterdir()
    return path


def content(records: Records) -> list[object]:
    """All that a run has recorded, bit for bit."""
    series = [(n, s.steps.tobytes(), s.values.tobytes()) for n, s in records.scalars.items()]
    tables = [
        *(column.tobytes() for column in records.rows.values()),
        *(column.tobytes() for column in (records.changes or {}).values()),
    ]
    cells, rho = records.cells("conv"), records.correlations("conv")
    return [*series, *tables, cells.gram.to_array().tobytes(), rho.rho.tobytes()]


@pytest.mark.parametrize("table", [*TABLES, "cells", "correlation"])
def test_a_flipped_bit_is_named_wherever_it_is(run, table):
    path = part(run, table)
    whole, good = path.read_bytes(), content(read(run))
    mark = range(whole.rfind(MARK), whole.rfind(MARK) + len(MARK))
    places = [*range(0, len(whole), max(len(whole) // 80, 1)), *mark[::5], len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        if place in mark:  # a checksum is not found without its mark, on which no number depends
            assert content(read(run)) == good
        else:
            with pytest.raises(RunDirectoryError, match=f"{path} is damaged"):
                read(run, strict=True)
            assert [part.name for part in read(run).unreadable] == [f"{table}/{path.name}"]
    path.write_bytes(whole)
    assert content(read(run)) == good


def test_a_page_has_a_checksum_of_its_own_for_other_readers(run):
    path = part(run, "records")
    whole = path.read_bytes()
    meta = pq.ParquetFile(path).metadata.row_group(0).column(4)
    damaged = bytearray(whole)
    damaged[meta.data_page_offset + meta.total_compressed_size - 9] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


@pytest.mark.parametrize("cut", [0, 1, 3, 12, 100, 1000])
def test_a_file_that_was_cut_short_is_named(run, cut):
    path = part(run, "settings")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RunDirectoryError, match=f"{path} is damaged"):
        read(run, strict=True)


def test_a_checksum_is_that_of_all_other_bytes(tmp_path):
    """Against the checksum of the bytes put together, at every length around a chunk."""
    import zlib

    for size in (0, 1, 100, (1 << 20) - 60, (1 << 20) - 1, (1 << 20) + 1):
        footer = b"\0" * 7 + MARK + b"00000000" + b"\1" * 9
        tail = len(footer).to_bytes(4, "little") + b"PAR1"
        path = tmp_path / "file"
        path.write_bytes(b"\2" * size + footer + tail)
        with path.open("r+b") as file:
            seal(file)
        verify(path)
        before, after = b"\2" * size + b"\0" * 7 + MARK, b"\1" * 9 + tail
        assert path.read_bytes() == before + b"%08x" % zlib.crc32(before + after) + after
    path.write_bytes(before + b"0badc0de" + after)
    with pytest.raises(pa.ArrowInvalid, match="written with 0badc0de"):
        verify(path)


def test_a_file_without_a_place_is_not_sealed(tmp_path):
    pq.write_table(pa.table({"step": [1]}), tmp_path / "file")
    file = (tmp_path / "file").open("r+b")
    with file, pytest.raises(pa.ArrowInvalid, match="without a place"):
        seal(file)
    verify(tmp_path / "file")


def test_a_damaged_part_is_not_merged_into_a_sound_one(tmp_path, info, rng):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(1), rng)
        writer.flush()
        path = part(tmp_path, "records")
        damaged = bytearray(path.read_bytes())
        damaged[200] ^= 1
        path.write_bytes(damaged)
        for step in range(1, FAN_IN + 3):
            write(writer, range(step, step + 1), rng)
            writer.flush()
    assert path.read_bytes() == damaged
    with pytest.raises(RunDirectoryError, match=f"{path} is damaged"):
        read(tmp_path, strict=True)
    path.unlink()
    records = read(tmp_path)
    assert records.steps.tolist() == list(range(1, FAN_IN + 3))
    (event,) = (e for e in records.events if e["kind"] == "not_merged")
    assert "checksum" in event["reason"]


def test_resuming_names_a_damaged_part(run, info):
    path = part(run, "records")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunDirectoryError, match=f"{path} is damaged"):
        RunWriter(run, info, resume=True)


# What later versions may add.


def rewrite(path: Path, change) -> None:
    """Replace a part by a changed table, as another writer would have written it."""
    table = change(pq.read_table(path))
    path.unlink()
    pq.write_table(table, path)


def test_columns_folders_and_keys_that_are_unknown_are_ignored(run):
    good = content(read(run))
    for table in (*TABLES, "cells", "correlation"):
        rewrite(part(run, table), lambda t: t.append_column("weather", [["fair"] * len(t)]))
    for name in ("anchors", "moon"):
        (run / name).mkdir()
        shutil.copy(part(run, "records"), run / name)
    document = json.loads((run / "run.json").read_text())
    document["mood"] = {"good": True}
    document["groups"][0]["colour"] = "red"
    (run / "run.json").write_text(json.dumps(document))
    assert content(read(run)) == good


def test_merging_keeps_columns_that_are_unknown(tmp_path, info, rng):
    with RunWriter(tmp_path, info) as writer:
        write(writer, range(1), rng)
        writer.flush()
        path = part(tmp_path, "records")
        rewrite(path, lambda t: t.append_column("weather", [["fair"] * len(t)]))
        for step in range(1, FAN_IN + 1):
            write(writer, range(step, step + 1), rng)
            writer.flush()
    (merged,) = (tmp_path / "records").glob("part-00000000-*")
    assert merged != path
    table = pq.read_table(merged)
    assert len(table) == 3 * FAN_IN
    weather = ["fair" if step == 0 else None for step in table["step"].to_pylist()]
    assert table["weather"].to_pylist() == weather
    assert read(tmp_path).steps.tolist() == list(range(FAN_IN + 1))


@pytest.mark.parametrize("name", ["step", "slice", "dg"])
def test_a_column_that_a_row_must_have_is_missed(run, name):
    path = part(run, "records")
    rewrite(path, lambda t: t.drop_columns(name))
    with pytest.raises(RunDirectoryError, match=f"{path} is damaged .it has no column {name}"):
        read(run, strict=True)


def test_a_column_of_another_type_or_with_gaps_is_named(run):
    path = part(run, "settings")
    rewrite(path, lambda t: t.set_column(0, "step", t["step"].cast(pa.float64())))
    with pytest.raises(RunDirectoryError, match="its column step is not of type int64"):
        read(run, strict=True)
    rewrite(path, lambda t: t.set_column(0, "step", pa.array([None] * len(t), pa.int64())))
    with pytest.raises(RunDirectoryError, match="its column step has gaps"):
        read(run, strict=True)


def test_a_run_of_a_newer_version_is_refused(run, info):
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 3}))
    for use in (read, lambda directory: RunWriter(directory, info, resume=True)):
        with pytest.raises(NotARun, match=r"version 3; this library reads up to 2\. Upgrade"):
            use(run)


# How the updates of a group resemble each other.


def test_correlations_are_read_as_recorded(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        assert not (tmp_path / "correlation").exists()
        writer.correlation(10, 1, np.array([1.0, 0.5]), 2.0)
        writer.correlation(0, 1, [1.0, 0.25, -0.5], np.float32(3.0))
        writer.flush()
        writer.correlation(10, 1, [1.0, 0.75], 4.0)
        writer.correlation(10, 0, [1.0], 5.0)
    steps, rho, update_sq = read(tmp_path).correlations("fc")
    assert steps.tolist() == [0, 10]
    np.testing.assert_array_equal(rho, [[1.0, 0.25, -0.5], [1.0, 0.75, np.nan]])
    assert update_sq.tolist() == [3.0, 4.0]
    assert read(tmp_path).correlations("conv").rho.tolist() == [[1.0]]


def test_a_run_that_measured_no_correlations_has_none(tmp_path, info):
    RunWriter(tmp_path, info).close()
    assert not (tmp_path / "correlation").exists()
    assert read(tmp_path).correlations("fc").rho.shape == (0, 0)


@pytest.mark.parametrize("bad", [{"group": 2}, {"rho": [["a"]]}, {"update_sq": None}])
def test_a_mistake_in_a_correlation_stops_recording_not_training(tmp_path, info, bad):
    writer = RunWriter(tmp_path, info)
    with pytest.warns(match="was given"):
        writer.correlation(**({"step": 0, "group": 0, "rho": [1.0], "update_sq": 1.0} | bad))
    writer.close()
