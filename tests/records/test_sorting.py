"""Rows in the order of their slices: merged as a stable sort of all of them would be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from given import give
from hypothesis import given, settings
from hypothesis import strategies as st

from spherical_motion.records import RunWriter, read
from spherical_motion.records.files import merging, sorting
from spherical_motion.records.files.segments import FAN_IN
from spherical_motion.records.files.sorting import merged_by, row_groups, sorted_by


def table_of(keys: list[int], source: int) -> pa.Table:
    rows = [f"{source}.{row}" for row in range(len(keys))]
    return pa.table({"slice": pa.array(keys, pa.int32()), "row": pa.array(rows, pa.string())})


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_merging_is_a_stable_sort(sources, batch, rows):
    tables = [sorted_by(table_of(keys, i), "slice") for i, keys in enumerate(sources)]
    expected = sorted_by(pa.concat_tables(tables).combine_chunks(), "slice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "ROW_GROUP", rows)
        pieces = [[t.slice(i, batch) for i in range(0, len(t), batch)] for t in tables]
        found = list(merged_by("slice", pieces, pa.concat_tables))
    merged = pa.concat_tables([expected.slice(0, 0), *found])
    assert merged.to_pydict() == expected.to_pydict()


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 9))
def test_row_groups_share_no_value_and_are_as_large_as_they_should(keys, rows):
    table = sorted_by(table_of(keys, 0), "slice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "ROW_GROUP", rows)
        pieces = list(row_groups(table, "slice"))
    assert pa.concat_tables([table.slice(0, 0), *pieces]).to_pydict() == table.to_pydict()
    values = [set(piece["slice"].to_pylist()) for piece in pieces]
    assert sum(map(len, values)) == len(set(keys))
    for piece, own in zip(pieces, values, strict=True):
        assert len(piece) <= rows or len(own) == 1


@pytest.fixture
def merged_run(tmp_path, info, rng):
    """A run of sixteen flushes with a step each, merged, and its products (16, 3, 6)."""
    grams = rng.normal(size=(FAN_IN, 3, 6))
    with RunWriter(tmp_path / "run", info) as writer:
        give(writer, 0, [(0.1, 0.1, 0.9, None)] * 2)
        for step, gram in enumerate(grams):
            writer.rows(step, gram)
            writer.flush()
    return tmp_path / "run", grams


def test_a_merged_part_says_that_it_is_sorted_and_groups_can_be_skipped(merged_run, monkeypatch):
    directory, grams = merged_run
    (path,) = (directory / "records").iterdir()
    metadata = pq.ParquetFile(path).metadata
    assert metadata.row_group(0).sorting_columns == (pq.SortingColumn(1),)
    assert pq.read_table(path)["slice"].to_pylist() == sorted(list(range(3)) * FAN_IN)
    assert pq.read_table(path)["step"].to_pylist() == list(range(FAN_IN)) * 3
    np.testing.assert_array_equal(read(directory).slice_gram.to_array(), grams)


def test_a_selection_reads_the_row_groups_of_its_slices_alone(tmp_path, info, rng, monkeypatch):
    monkeypatch.setattr(sorting, "ROW_GROUP", 20)
    grams = rng.normal(size=(40, 3, 6))
    with RunWriter(tmp_path, info) as writer:
        for step, gram in enumerate(grams):
            writer.rows(step, gram)
    records = read(tmp_path)
    from spherical_motion.records.reading import rows as rows_module

    asked = []
    real = rows_module.column_of_group

    def counted(file, field, group):
        asked.append(group)
        return real(file, field, group)

    monkeypatch.setattr(rows_module, "column_of_group", counted)
    part = records.select(["fc"])
    np.testing.assert_array_equal(part.slice_gram.to_array(), grams[:, 1:])
    assert sorted(set(asked)) == [1, 2]


def test_parts_that_are_not_sorted_are_merged_as_they_are(tmp_path, info, rng, monkeypatch):
    """As an earlier version wrote them: every row stays, and the later one counts."""
    grams = rng.normal(size=(FAN_IN, 3, 6))
    monkeypatch.setattr(merging, "sorted_by", lambda table, key: table)
    monkeypatch.setattr(merging, "row_groups", lambda table, key: [table])
    with RunWriter(tmp_path, info) as writer:
        for first in range(0, FAN_IN):
            for step in (first, first + 1):
                writer.rows(step, grams[first])
            writer.flush()
    (path,) = (tmp_path / "records").iterdir()
    assert pq.read_table(path)["step"].to_pylist()[:9] == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    found = read(tmp_path).slice_gram.to_array()
    np.testing.assert_array_equal(found[:-1], grams)
    np.testing.assert_array_equal(found[-1], grams[-1])


def test_steps_of_sorted_rows_take_no_space(tmp_path, info):
    """At most twenty bytes a row beside the products, before compression: here far fewer."""
    with RunWriter(tmp_path, info) as writer:
        for step in range(5000):
            writer.rows(step, np.ones((3, 6)))
    (path,) = (tmp_path / "records").iterdir()
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema in ("step", "slice"))
    assert size / group.num_rows < 1
