"""docs/records.md says what a run directory holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from simulated import constant, simulate_sgd

from spherical_motion.records import AUDIT_SUMS, SCHEMA_VERSION, RunWriter, read_info
from spherical_motion.records.schema import CORRELATION_SCHEMA, SETTINGS, row_schema

PAGE = (Path(__file__).parents[2] / "docs/records.md").read_text(encoding="utf-8")


def test_every_file_and_column_is_on_the_page(write_run) -> None:
    settings = constant(0.1, 0.01, 0.9, 2)
    run = write_run({"conv": simulate_sgd(settings)}, settings)
    with RunWriter(run, read_info(run), resume=True) as writer:
        writer.scalars(0, {"loss": 1.0})
        writer.cells(0, 0, np.ones((1, 6)))
        writer.correlation(0, 0, [1.0], 1.0)
        writer.audit(0, [0], np.ones((1, len(AUDIT_SUMS))))
        writer.audit_step(0, 0, 1.0, 1.0, 2.0, "")
    for path in run.iterdir():
        assert f"| `{path.name}{'/' if path.is_dir() else ''}` |" in PAGE
        for part in path.glob("*.parquet"):
            for column in pq.read_schema(part).names:
                assert re.search(rf"\b{column}\b", PAGE), column
    for column in (*row_schema(8).names, *SETTINGS, *CORRELATION_SCHEMA.names):
        assert re.search(rf"\b{column}\b", PAGE), column


def test_the_version_is_the_last_of_the_table() -> None:
    versions = re.findall(r"^\| (\d+) \|", PAGE, re.M)
    assert versions == [str(number) for number in range(1, SCHEMA_VERSION + 1)]
