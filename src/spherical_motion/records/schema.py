"""The columns of a run's tables, and what the version of a run directory promises.

Versions of the schema:

1. Each row held lr, weight_decay, momentum and beta2 of its slice.
2. Rows hold the products alone; `settings/` holds the settings of each param group and change.

Additions do not raise the version. A reader ignores columns, folders and keys of `run.json` that it
does not know, and a column that it expects and that an older writer left out is NaN. The version
goes up only if an older reader would return wrong numbers; that reader then refuses the run.

Each folder of a run holds one table in parts (`segments`). The name `anchors` is kept for a table
to come (sums against older copies of the weights).
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

AUDIT_SUMS = (
    *("ww", "wd", "we", "dd", "ee", "de"),
    *("miss_sq", "allowed_sq", "lost", "peak", "rewritten"),
    *("gg", "wg", "epsilon", "eval_mode", "replaced"),
    *("at_peak", "largest"),
    *("counter", "taken"),
)
"""What an audited step has of each parameter; NaN where it was not determined.

w is the weights before the step, d the step that was taken, e the step that the optimizer's own
rule makes of this gradient, state and settings, g the gradient before the step.

- ww, wd, we, dd, ee, de: inner products, in float64.
- miss_sq: |d - e|². allowed_sq: the square of what rounding to the weights' dtype and arithmetic in
  the dtype of the step can add to |d - e|.
- lost: share of |e|² in entries that did not move at all, from 0 to 1.
- peak: share of the non-zero entries of g whose |g| is exactly the largest.
- at_peak, largest: how many entries these are, and this largest |g|. Runs written before they were
  measured have NaN.
- rewritten: |g_after - g|/|g|, what `step` did to the gradient; 0 if nothing.
- gg, wg: <g, g> and <w, g>.
- epsilon: mean of eps/(var + eps) over the norm layers that the parameter feeds.
- eval_mode: 1 if one of these layers is in eval mode, 0 if none is.
- replaced: 1 if the model's parameter of this name is another tensor by now, else 0.
- counter, taken: the optimizer's own count of its steps of this parameter, after this one, and the
  steps with a gradient that it was seen to take since its state was empty; NaN if state was there
  before, and in runs written before they were recorded.
"""

AUDIT_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("parameter", pa.int32()),
        *((name, pa.float64()) for name in AUDIT_SUMS),
    ]
)
"""`audit/`: one row per audited step and parameter, an index into `RunInfo.parameters`."""

AUDIT_STEP_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("optimizer", pa.int32()),
        *((name, pa.float64()) for name in ("counter", "taken", "grad_norm")),
        ("skipped", pa.string()),
    ]
)
"""`audit_steps/`: one row per audited step and optimizer.

`counter` and `taken` are those of `audit/`, of the parameter where they differ most; of alike ones,
of the one with the most steps.
`grad_norm` is the norm of all gradients of all optimizers together, before the step. `skipped` says
why the step was not replayed; it is empty if it was.
"""
