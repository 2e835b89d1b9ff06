"""What cannot be read is named once, counted and left out, in every table alike."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from full_run import PARTS, STEPS, TABLES, full_info, part_of, write_full_run

from spherical_motion.errors import InvalidArgument, NotARun, RunDirectoryError
from spherical_motion.records import Records, RunWriter, read
from spherical_motion.records.files.checksum import MARK

LENGTHS: dict[str, Callable[[Records], object]] = {
    "records": lambda records: len(records.rows["step"]),
    "scalars": lambda records: len(records.scalars["loss"].steps),
    "cells": lambda records: len(records.cells("conv").steps),
    "correlation": lambda records: len(records.correlations("conv").steps),
    "audit": lambda records: len(records.audits),
    "audit_steps": lambda records: len(records.audit_steps),
}
"""How much a run has of a table."""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_full_run(tmp_path_factory.mktemp("unreadable") / "run")


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "run"))


def flip(path: Path, place: int, bit: int) -> bytes:
    """Flip a bit of a file; returns its bytes before."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    return whole


@pytest.mark.parametrize("flips", [70, pytest.param(300, marks=pytest.mark.slow)])
def test_flipped_bits_over_all_tables_are_caught(run, flips):
    """All but the mark of a checksum: without it there is none, and no number depends on it."""
    rng = np.random.default_rng(flips)
    for count in range(flips):
        table, number = TABLES[count % len(TABLES)], int(rng.integers(PARTS))
        path = part_of(run, table, number)
        size, mark = path.stat().st_size, path.read_bytes().rfind(MARK)
        places = [p for p in range(size) if not mark <= p < mark + len(MARK)]
        whole = flip(path, int(rng.choice(places)), int(rng.integers(8)))
        (unreadable,) = read(run).unreadable
        assert unreadable.name == f"{table}/{path.name}"
        path.write_bytes(whole)
    assert read(run).unreadable == ()


@pytest.mark.parametrize("table", TABLES)
def test_a_part_is_left_out_of_every_table_alike(run, caplog, table):
    sound = read(run)
    whole = {name: length(sound) for name, length in LENGTHS.items()}
    path = part_of(run, table, 1)
    flip(path, 100, 3)
    records = read(run)
    for name, length in LENGTHS.items():
        share = (PARTS - 1) / PARTS if name == table else 1
        assert length(records) == whole[name] * share
    (part,) = records.unreadable
    assert part.name == f"{table}/{path.name}"
    assert "checksum" in part.why
    (notice,) = caplog.messages
    assert notice.count(part.name) == 1
    assert "is left out" in notice
    with pytest.raises(RunDirectoryError, match=f"{path} is damaged"):
        read(run, strict=True)


def test_all_that_is_damaged_is_in_one_notice(run, caplog):
    for table in TABLES:
        part_of(run, table, 2).write_bytes(b"PAR1")
    records = read(run)
    for length in LENGTHS.values():
        length(records)
    assert len(records.unreadable) == len(TABLES)
    (notice,) = caplog.messages
    assert f"and {len(TABLES) - 3} more" in notice


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("numbers", [[0], [1, 2]])
def test_a_missing_part_is_named(run, caplog, table, numbers):
    for number in numbers:
        part_of(run, table, number).unlink()
    (part,) = read(run).unreadable
    assert part.name == f"{table}/part-{numbers[0]:08d}-{numbers[-1]:08d}.parquet"
    steps = "before 30" if numbers == [0] else f"between 29 and {3 * STEPS}"
    where = f"; its steps lie {steps}" if table == "records" else ""
    assert part.why == ("it is missing" if len(numbers) == 1 else "2 parts are missing") + where
    assert part.name in caplog.text
    with pytest.raises(RunDirectoryError, match="missing"):
        read(run, strict=True)


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_folder_is_named(run, caplog, table):
    shutil.rmtree(run / table)
    assert read(run).unreadable == ((table, "it is missing"),)
    assert f"is damaged: {table}/ is missing. What it holds" in caplog.text
    remedy = "Restore it from a copy, or read without strict=True, which leaves it out"
    with pytest.raises(RunDirectoryError, match=f"{table}/ is missing. {remedy}"):
        read(run, strict=True)


@pytest.mark.parametrize("table", TABLES)
def test_the_last_part_of_a_closed_run_is_missed(run, table):
    last = part_of(run, table, PARTS - 1)
    last.unlink()
    where = f"; its steps lie after {(PARTS - 1) * STEPS - 1}" if table == "records" else ""
    assert read(run).unreadable == ((f"{table}/{last.name}", f"it is missing{where}"),)
    with pytest.raises(RunDirectoryError, match="missing"):
        read(run, strict=True)


def test_a_lost_part_is_missed_after_a_resume_too(run):
    part_of(run, "records", PARTS - 1).unlink()
    with RunWriter(run, full_info(), resume=True) as writer:
        writer.rows(PARTS * STEPS, np.ones((3, 6)))
    (part,) = read(run).unreadable
    assert part.name == f"records/part-{PARTS - 1:08d}-{PARTS - 1:08d}.parquet"


@pytest.mark.parametrize("number", range(PARTS))
def test_settings_are_unknown_after_a_part_of_them_is_lost(run, number):
    """They may have changed in it, so the last ones known do not hold on."""
    good = read(run).lr
    part_of(run, "settings", number).write_bytes(b"PAR1")
    lr = read(run).lr
    lost = slice(number * STEPS, (number + 1) * STEPS)
    assert np.isnan(lr[lost]).all()
    kept = np.delete(lr, lost, axis=0)
    np.testing.assert_array_equal(kept, np.delete(good, lost, axis=0))


def test_a_link_to_nowhere_is_a_damaged_part(run):
    path = part_of(run, "records", 1)
    path.unlink()
    path.symlink_to("nowhere")
    assert [part.name for part in read(run).unreadable] == [f"records/{path.name}"]


def test_a_sound_run_has_nothing_unreadable(run, caplog):
    records = read(run, strict=True)
    assert records.unreadable == ()
    assert [length(records) for length in LENGTHS.values()] == [
        *(PARTS * STEPS * rows for rows in (3, 1, 1, 1, 3, 1))
    ]
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["records/part-00000001-00000001.parquet", "events.jsonl"])
def test_a_pipe_is_not_waited_for(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    assert [part.name for part in read(run).unreadable] == [name]
    with pytest.raises(RunDirectoryError, match=r"no ordinary file|it is no file"):
        read(run, strict=True)


@pytest.mark.parametrize("kind", ["pipe", "link to itself", "endless"])
def test_a_run_json_that_is_no_file_is_an_error(run, kind):
    path = run / "run.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "link to itself" else "/dev/zero")
    with pytest.raises(NotARun, match=r"run\.json"):
        read(run)


@pytest.mark.parametrize("far", [2**31 - 1, 2**52])
def test_a_step_far_away_is_an_error_and_takes_no_memory(run, far):
    for table in ("records", "settings"):
        path = part_of(run, table, PARTS - 1)
        rows = pq.read_table(path)
        steps = [far if step == PARTS * STEPS - 1 else step for step in rows["step"].to_pylist()]
        rows = rows.set_column(rows.column_names.index("step"), "step", pa.array(steps))
        pq.write_table(rows, path)
    with pytest.raises(InvalidArgument, match=r"has steps from 0 to .* 100,000,000 at most"):
        read(run).schedule("conv")


@pytest.mark.parametrize("bad", [{"step": -1}, {"step": 2**62}, {"slice": 3}, {"slice": -1}])
def test_rows_of_what_does_not_exist_are_left_out(run, bad):
    path = part_of(run, "records", 1)
    rows = pq.read_table(path)
    ((name, value),) = bad.items()
    values = rows[name].to_pylist()
    values[7] = value
    column = pa.array(values, rows[name].type)
    pq.write_table(rows.set_column(rows.column_names.index(name), name, column), path)
    (part,) = read(run).unreadable
    assert part.name == f"records/{path.name}"
    assert f" has {name} {value}, which must lie" in part.why
