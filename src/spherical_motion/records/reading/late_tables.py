"""The tables that are read on demand: cells, correlations and audited steps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spherical_motion.records.audits import AuditSeries, AuditStepSeries
from spherical_motion.records.directory import RunDirectory
from spherical_motion.records.info import RunInfo
from spherical_motion.records.parts import Parts
from spherical_motion.records.schema import (
    AUDIT_SCHEMA,
    AUDIT_STEP_SCHEMA,
    CELL_SCHEMA,
    CORRELATION_SCHEMA,
)
from spherical_motion.records.series import (
    CellSeries,
    CorrelationSeries,
    cells_of_group,
    correlations_of_group,
)
from spherical_motion.records.validation import Bounds
from spherical_motion.records.validation.table_rows import (
    check_cells,
    check_columns,
    check_counts,
    check_rows,
)

Content = Callable[[pq.ParquetFile], pa.Table]


@dataclasses.dataclass(frozen=True)
class LateTables:
    """Reads them from one run directory; `parts` remembers what is damaged.

    Attributes:
        run: the paths.
        parts: reads the parts of each table.
        info: the facts of the run.
        bounds: how many of each thing it has.
    """

    run: RunDirectory
    parts: Parts
    info: RunInfo
    bounds: Bounds

    def check(self) -> None:
        """Find what is damaged, so that one notice can name it.

        Of cells, which may be very many, checksums and columns are compared; the others are read.
        """
        self.parts.read(self.run.cells, lambda file: check_columns(CELL_SCHEMA, file.schema_arrow))
        for directory, content in self._small.items():
            self.parts.read(directory, content)

    def cells(self, group: int) -> CellSeries:
        """The cells of a group."""
        counts = [len(group.cells) for group in self.info.groups]

        def content(file: pq.ParquetFile) -> pa.Table:
            found = whole_part(file, CELL_SCHEMA, self.bounds)
            check_cells(found, counts)
            return found

        return cells_of_group(self._table(self.run.cells, CELL_SCHEMA, content), group)

    def correlations(self, group: int) -> CorrelationSeries:
        """How the updates of a group resemble each other."""
        return correlations_of_group(self._correlations, group)

    @functools.cached_property
    def _correlations(self) -> pa.Table:
        """Read once for all groups, of which there may be many."""
        content = self._small[self.run.correlation]
        return self._table(self.run.correlation, CORRELATION_SCHEMA, content)

    def audits(self) -> AuditSeries:
        """The audited steps of all parameters."""
        content = self._small[self.run.audit]
        return AuditSeries.from_table(self._table(self.run.audit, AUDIT_SCHEMA, content))

    def audit_steps(self) -> AuditStepSeries:
        """The audited steps of all optimizers."""
        content = self._small[self.run.audit_steps]
        table = self._table(self.run.audit_steps, AUDIT_STEP_SCHEMA, content)
        return AuditStepSeries.from_table(table)

    @property
    def _small(self) -> Mapping[Path, Content]:
        return {
            self.run.correlation: lambda file: whole_part(file, CORRELATION_SCHEMA, self.bounds),
            self.run.audit: lambda file: _audit_part(file, AUDIT_SCHEMA, self.bounds),
            self.run.audit_steps: lambda file: _audit_part(file, AUDIT_STEP_SCHEMA, self.bounds),
        }

    def _table(self, directory: Path, schema: pa.Schema, content: Content) -> pa.Table:
        return pa.concat_tables([schema.empty_table(), *self.parts.read(directory, content)])


def whole_part(file: pq.ParquetFile, schema: pa.Schema, bounds: Bounds) -> pa.Table:
    """A part of a table, without columns that the schema does not have; ArrowInvalid if bad."""
    check_columns(schema, file.schema_arrow)
    check_counts(file)
    found = file.read(columns=schema.names).replace_schema_metadata(None)
    check_rows(found, bounds)
    return found.select(schema.names)


def _audit_part(file: pq.ParquetFile, schema: pa.Schema, bounds: Bounds) -> pa.Table:
    """Like `whole_part`; numbers that a part lacks, since an earlier version wrote it, are NaN."""
    check_counts(file)
    found = file.read(columns=[n for n in schema.names if n in file.schema_arrow.names])
    for place, field in enumerate(schema):
        if field.name not in found.column_names and field.type == pa.float64():
            found = found.add_column(place, field, pa.array(np.full(found.num_rows, np.nan)))
    check_columns(schema, found.schema)
    found = found.select(schema.names).replace_schema_metadata(None)
    check_rows(found, bounds)
    return found
