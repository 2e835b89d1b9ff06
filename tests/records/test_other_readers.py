"""The queries of docs/records.md run, and say what `read` says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from given import give

from spherical_motion.records import RunWriter, read

PAGE = Path(__file__).parents[2] / "docs" / "records.md"


def blocks(language: str, word: str) -> str:
    """The code block of the page in a language that has a word."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = (text for text in found if word in text)
    return block


@pytest.fixture
def run(tmp_path, info, rng, monkeypatch):
    """Forty steps in several parts, then resumed at step 25, and one step written twice."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "runs" / "mine"
    for resume, steps in ((False, range(40)), (True, range(25, 33))):
        first = {"first_step": steps.start} if resume else {}
        with RunWriter(directory, info, resume=resume, **first) as writer:
            for step in steps:
                give(writer, step, [(0.1 / (step + 1), 5e-4, 0.9, None), (0.2, 0.0, 0.9, None)])
                w, d, g = rng.normal(size=(3, 3, 5))
                pairs = ((w, w), (w, d), (d, d), (w, g), (g, g), (d, g))
                writer.rows(step, np.stack([(a * b).sum(-1) for a, b in pairs], axis=-1))
                if step % 2:
                    writer.flush()
    return directory


def test_duckdb_leaves_out_what_does_not_count(run):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(blocks("sql", "resumes")).arrow().read_all()
    records = read(run)
    assert len(records.steps) == 33
    assert found["step"].to_pylist() == np.repeat(records.steps, 3).tolist()
    for name in ("ww", "wd", "dd", "wg", "gg", "dg"):
        expected = getattr(records.slice_gram, name).reshape(-1)
        np.testing.assert_array_equal(found[name].to_numpy(), expected)


def test_duckdb_has_the_last_norm_of_each_slice(run):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(blocks("sql", "max_by")).fetchall()
    last = read(run, branch=0).slice_gram.ww[-1]  # the query counts every row
    np.testing.assert_allclose([norm for _, norm in found], np.sqrt(last), rtol=1e-15)


def test_polars_has_the_mean_angle_of_each_slice(run, capsys):
    polars = pytest.importorskip("polars")
    names = {}
    exec(blocks("python", "polars").replace("print(", "(result := "), names)
    assert isinstance(names["result"], polars.DataFrame)
    rows = read(run).columns.stored(("slice", "ww", "wd", "dd"))
    assert names["result"]["slice"].to_list() == [0, 1, 2]
    every = polars.read_parquet("runs/mine/records/*.parquet")
    for i, angle in names["result"].iter_rows():
        own = every.filter(polars.col("slice") == i)
        ww, wd, dd = (own[name].to_numpy() for name in ("ww", "wd", "dd"))
        expected = np.arctan2(np.sqrt(np.maximum(ww * dd - wd**2, 0)), ww + wd).mean()
        assert angle == pytest.approx(expected, rel=1e-12)
    assert len(every) > len(rows["slice"])


def test_pandas_has_the_last_settings(run, capsys):
    names = {}
    exec(blocks("python", "pandas").replace("print(", "(result := "), names)
    assert names["result"]["lr"].tolist() == [0.1 / 33, 0.2]
    assert names["result"]["weight_decay"].tolist() == [5e-4, 0.0]
