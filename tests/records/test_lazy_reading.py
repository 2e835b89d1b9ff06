"""A run that was read is of one moment, whatever happens to its files before they are used."""

from __future__ import annotations

import dataclasses
import shutil
import tracemalloc

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from full_run import full_info
from given import give

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records import AUDIT_SUMS, RunWriter, read
from spherical_motion.records.files.segments import FAN_IN
from spherical_motion.records.reading import rows as rows_module


@pytest.fixture
def products(rng):
    """Of forty steps, three slices."""
    return rng.normal(size=(40, 3, 6))


def write(directory, info, products, steps, **options):
    """Record these steps, with a flush after each."""
    with RunWriter(directory, info, **options) as writer:
        for step in steps:
            give(writer, step, [(0.1 / (step + 1), 5e-4, 0.9, None)] * 2)
            writer.rows(step, products[step])
            writer.flush()
        writer.flush()  # waits for the merge


def test_products_are_read_once_when_they_are_first_used(tmp_path, info, products, monkeypatch):
    write(tmp_path, info, products, range(3))
    read_columns = []
    real = rows_module.column_of_group

    def counted(file, field, group):
        read_columns.append(field.name)
        return real(file, field, group)

    monkeypatch.setattr(rows_module, "column_of_group", counted)
    records = read(tmp_path)
    assert records.steps.tolist() == [0, 1, 2]
    assert records.mixed == {}
    assert read_columns == []
    assert records.gram_of(0).ww.tolist() == products[:3, 0, 0].tolist()
    assert sorted(read_columns) == sorted(3 * ["ww", "wd", "dd", "wg", "gg", "dg"])
    assert records.slice_gram.ww.tolist() == products[:3, :, 0].tolist()
    assert len(read_columns) == 18


def test_a_group_of_one_slice_is_no_copy_and_lies_in_one_piece(tmp_path, info, products):
    write(tmp_path, info, products, range(3))
    records = read(tmp_path)
    column = records.gram_of(0).ww
    assert np.shares_memory(column, records.columns["ww"])
    assert column.flags.c_contiguous
    part = records.select(["conv"])
    assert np.shares_memory(part.gram_of(0).ww, column)


@pytest.mark.parametrize("known", [5, FAN_IN - 1])
def test_what_was_merged_and_written_since_does_not_show(tmp_path, info, products, known):
    """The parts that were read are found in the merged one, whose later rows do not count."""
    write(tmp_path, info, products, range(known))
    records = read(tmp_path)
    with RunWriter(tmp_path, info, resume=True) as writer:
        assert writer.next_step == known
    expected = read(tmp_path).slice_gram.to_array()
    shutil.rmtree(tmp_path / "records")
    (tmp_path / "records").mkdir()
    shutil.rmtree(tmp_path / "twin", ignore_errors=True)
    write(tmp_path / "twin", info, products, range(2 * FAN_IN))
    for part in (tmp_path / "twin" / "records").iterdir():
        part.rename(tmp_path / "records" / part.name)
    assert records.steps.tolist() == list(range(known))
    np.testing.assert_array_equal(records.slice_gram.to_array(), expected)
    assert records.lr.shape == (known, 2)
    assert len(records.rows["step"]) == 3 * known


def test_a_part_that_merges_while_it_is_read_is_read_again(tmp_path, info, products, monkeypatch):
    with RunWriter(tmp_path, info) as writer:
        give(writer, 0, [(0.1, 5e-4, 0.9, None)] * 2)
        for step in range(FAN_IN - 1):
            writer.rows(step, products[step])
            writer.flush()
        records = read(tmp_path)
        real, calls = rows_module.column_of_group, []

        def merging(file, field, group):
            calls.append(field.name)
            if len(calls) == 20:
                writer.rows(FAN_IN - 1, products[FAN_IN - 1])
                writer.flush()
                writer.flush()
            return real(file, field, group)

        monkeypatch.setattr(rows_module, "column_of_group", merging)
        found = records.slice_gram.to_array()
    assert len(list((tmp_path / "records").iterdir())) == 1
    np.testing.assert_array_equal(found, products[: FAN_IN - 1])


def test_a_run_that_was_removed_or_replaced_is_no_longer_read(tmp_path, make_info, products):
    directory = tmp_path / "run"
    write(directory, make_info(), products, range(3))
    removed, replaced = read(directory), read(directory)
    shutil.rmtree(directory)
    with pytest.raises(RunDirectoryError, match=r"is not as it was .* Read the run again\."):
        removed.gram_of(0)
    write(directory, make_info(created="2025-01-01T00:00:00+00:00"), products + 1, range(3))
    with pytest.raises(RunDirectoryError, match="was replaced"):
        replaced.gram_of(0)
    write(directory, make_info(), products, range(3, 20), resume=True)
    with pytest.raises(RunDirectoryError, match="is not as it was"):
        replaced.gram_of(0)


LATE = {
    "records": lambda records: records.slice_gram,
    "cells": lambda records: records.cells("conv"),
    "correlation": lambda records: records.correlations("conv"),
    "audit": lambda records: records.audits,
    "audit_steps": lambda records: records.audit_steps,
}
"""What is read of each table when it is first used."""


def write_values(directory, value, parts=2):
    """A run whose tables hold this value everywhere, in several parts; it was resumed once."""
    info = dataclasses.replace(full_info(), created=f"2024-01-01T00:00:{value:02d}+00:00")
    for resume in (False, True):
        with RunWriter(directory, info, resume=resume) as writer:
            for step in range(writer.next_step, writer.next_step + parts):
                give(writer, step, [(0.1, 5e-4, 0.9, None)] * 2)
                writer.rows(step, np.full((3, 6), value))
                writer.cells(step, 0, np.full((4, 6), value))
                writer.correlation(step, 0, [1.0, value], value)
                writer.audit(step, [0], np.full((1, len(AUDIT_SUMS)), value))
                writer.audit_step(step, 0, value, value, value, "")
                writer.flush()


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("table", LATE)
def test_no_table_of_another_run_in_its_place_is_read(tmp_path, table, merged):
    directory = tmp_path / "run"
    write_values(directory, 10)
    records = read(directory)
    shutil.rmtree(directory)
    write_values(directory, 20, FAN_IN if merged else 2)
    with pytest.raises(RunDirectoryError, match=rf"/{table} is not as it was .*run again"):
        LATE[table](records)
    with pytest.raises(RunDirectoryError, match="is not as it was"):
        _ = records.branches


@pytest.mark.parametrize("table", LATE)
def test_no_table_of_a_remote_run_in_its_place_is_read(tmp_path, table):
    system = fsspec.filesystem("memory")
    for value in (10, 20):
        write_values(tmp_path / str(value), value)
    try:
        system.put(f"{tmp_path}/10/", "/pinned", recursive=True)
        records = read("memory://pinned")
        system.rm("/pinned", recursive=True)
        system.put(f"{tmp_path}/20/", "/pinned", recursive=True)
        with pytest.raises(RunDirectoryError, match=rf"/{table} is not as it was"):
            LATE[table](records)
    finally:
        system.rm("/pinned", recursive=True)


@pytest.mark.parametrize("table", [name for name in LATE if name != "records"])
def test_another_run_without_the_table_is_not_taken_for_a_damaged_one(tmp_path, table):
    write_values(tmp_path / "run", 10)
    records = read(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    info = dataclasses.replace(full_info(), created="2024-01-01T00:00:20+00:00")
    RunWriter(tmp_path / "run", info).close()
    with pytest.raises(RunDirectoryError, match=rf"/{table} is not as it was"):
        LATE[table](records)
    assert records.unreadable == ()


def test_tables_that_were_merged_and_went_on_since_are_read_as_they_were(tmp_path):
    write_values(tmp_path, 10)
    records, expected = read(tmp_path), read(tmp_path)
    old = {name: load(expected) for name, load in LATE.items()}
    with RunWriter(tmp_path, records.info, resume=True) as writer:
        for step in range(4, 4 + FAN_IN):
            writer.cells(step, 0, np.full((4, 6), 30.0))
            writer.audit_step(step, 0, 30.0, 30.0, 30.0, "")
            writer.flush()
    assert LATE["audit_steps"](records).step.tolist() == old["audit_steps"].step.tolist()
    cells = LATE["cells"](records)
    assert cells.steps.tolist() == old["cells"].steps.tolist() == [0, 1, 2, 3]
    assert (cells.gram.ww == 10.0).all()
    assert records.branches == expected.branches


def test_a_part_damaged_after_reading_is_left_out_with_a_notice(tmp_path, info, products, caplog):
    """One whose checksum fits and whose pages do not decode, as another program might write it."""
    write(tmp_path, info, products, range(4))
    records = read(tmp_path)
    pinned = records.columns._rows._parts
    path = tmp_path / "records" / "part-00000002-00000002.parquet"
    whole = path.read_bytes()
    page = pq.ParquetFile(path).metadata.row_group(0).column(2).data_page_offset
    path.write_bytes(whole[:page] + bytes(30) + whole[page + 30 :])
    with pytest.MonkeyPatch.context() as patch:
        # As if nothing told the two files apart.
        patch.setattr(
            "spherical_motion.records.reading.pinned.mark_of",
            lambda path: path.stat().st_size,
        )
        pinned._marks = {s: s.path.stat().st_size for s in pinned._marks}
        found = records.slice_gram.ww
    np.testing.assert_array_equal(found[[0, 1, 3]], products[[0, 1, 3], :, 0])
    assert np.isnan(found[2]).all()
    assert [part.name for part in records.unreadable] == [f"records/{path.name}"]
    assert path.name in caplog.text


def test_memory_is_that_of_the_products_and_little_more(tmp_path, make_info, rng):
    """At most twenty bytes a row beside them, of a run whose rows are many enough to tell."""
    steps = 30_000
    with RunWriter(tmp_path, make_info()) as writer:
        give(writer, 0, [(0.1, 5e-4, 0.9, None)] * 2)
        gram = rng.normal(size=(3, 6))
        for step in range(steps):
            writer.rows(step, gram)
    tracemalloc.start()
    records = read(tmp_path)
    for group in range(2):
        records.gram_of(group)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / (3 * steps) < 7 * 8 + 20
