"""The columns of a run's tables, and what the version of a run directory promises.

Versions of the schema:

1. Each row held lr, weight_decay, momentum and beta2 of its slice.
2. Rows hold the products alone; `settings/` holds the settings of each param group and change.

Additions do not raise the version. A reader ignores columns, folders and keys of `run.json` that it
does not know, and a column that it expects and that an older writer left out is NaN. The version
goes up only if an older reader would return wrong numbers; that reader then refuses the run.

Each folder of a run holds one table in parts (`segments`). Two names are kept for tables to come:
`audit` (steps that were replayed) and `anchors` (sums against older copies of the weights).
"""

from __future__ import annotations

import pyarrow as pa

from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

SCHEMA_VERSION = 2
"""Goes up whenever an older reader could misread a run."""

SETTINGS = ("lr", "weight_decay", "momentum", "beta2")
"""Settings that may change at each step; momentum holds β1, and NaN means there is none."""

BYTES_PER_ROW = 42
"""Disk space of one (step, slice) row of six products; see `bytes_per_row`."""


def bytes_per_row(products: int = len(FIELDS)) -> float:
    """Disk space of one (step, slice) row, to predict the size of a run.

    Measured on 2,650,000 rows of 53 slices: 41.5, 48.5 and 55.7 bytes with 6, 7 and 8 products; 45
    with 6 on a segment of 1,060 rows. The products take nearly all, since their lower halves are
    noise. Settings take 9 bytes a step and param group while a schedule moves.
    """
    return BYTES_PER_ROW / len(FIELDS) * products


def row_schema(products: int = len(FIELDS)) -> pa.Schema:
    """`records/`: one row per step and slice, with the first `products` of `PRODUCTS`.

    `slice` is an index into `RunInfo.slices`.
    """
    columns = [("step", pa.int64()), ("slice", pa.int32())]
    return pa.schema(columns + [(name, pa.float64()) for name in PRODUCTS[:products]])


SETTINGS_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("param_group", pa.int32()),
        *((name, pa.float64()) for name in SETTINGS),
    ]
)
"""`settings/`: one row per param group at the start, at each resume and at each change.

`param_group` is an index into `RunInfo.param_groups`. Values hold from `step` on. A row counts
unless a later row of its param group has the same step or an earlier one: a run that is resumed
from an earlier step writes its settings anew, which undoes the changes it went back on.
"""

SCALAR_SCHEMA = pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
"""`scalars/`: the numbers that the training loop logged."""

CELL_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int32()),
        *((name, pa.list_(pa.float64())) for name in FIELDS),
    ]
)
"""`cells/`, only if asked for: one row per step and group, a list entry per certified cell."""

CORRELATION_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int32()),
        ("rho", pa.list_(pa.float64())),
        ("update_sq", pa.float64()),
    ]
)
"""`correlation/`, only if asked for: autocorrelation of a group's updates u at lags 0, 1, ... over
a burst of steps that begins at `step`, and mean |u|²."""
