"""Run directories: rows, scalars and events go in while training; `Records` come out later.

    run.json                  the groups, optimizers and versions of the run
    records/part-*.parquet    one row per step and slice: six to eight inner products
    settings/part-*.parquet   one row per param group at the start and at each change
    cells/part-*.parquet      only if asked for: the same per certified cell, in lists
    correlation/...           only if asked for: how the updates of a group resemble each other
    audit/, audit_steps/      steps that were replayed, per parameter and per optimizer
    scalars/part-*.parquet    the numbers that the training loop logged
    events.jsonl              the events: rate changed, rescaled, resumed, ...
    run.lock                  held by the process that writes

Files are plain Parquet and JSON. Start with `RunInfo` (schema), `RunWriter` and `read`.
"""

from spherical_motion.records.audits import AuditSeries, AuditStepSeries
from spherical_motion.records.files.branches import Branch
from spherical_motion.records.info import RunInfo
from spherical_motion.records.parts import Unreadable
from spherical_motion.records.reader import read, read_info, steps_at_close
from spherical_motion.records.result import Records
from spherical_motion.records.schema import (
    AUDIT_SUMS,
    BYTES_PER_ROW,
    SCHEMA_VERSION,
    bytes_per_row,
)
from spherical_motion.records.series import CellSeries, CorrelationSeries, Series
from spherical_motion.records.writer import RunWriter

__all__ = [
    "AUDIT_SUMS",
    "BYTES_PER_ROW",
    "SCHEMA_VERSION",
    "AuditSeries",
    "AuditStepSeries",
    "Branch",
    "CellSeries",
    "CorrelationSeries",
    "Records",
    "RunInfo",
    "RunWriter",
    "Series",
    "Unreadable",
    "bytes_per_row",
    "read",
    "read_info",
    "steps_at_close",
]
