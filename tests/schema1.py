"""A run directory as version 1 of the schema had it, written by hand, and what one reads of it.

The values beside it, `records/schema1_values.json`, are what the library of that time returned.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PRODUCTS = ("ww", "wd", "dd", "wg", "gg", "dg")
SETTINGS = ("lr", "weight_decay", "momentum", "beta2")
DERIVED = ("angle", "norm", "norm_after", "unit_gradient_norm", "defect", "effective_lr")

SGD = {"class": "SGD", "optimizer": 0, "lr": 0.1, "weight_decay": 5e-4, "momentum": 0.9}
ADAM = {"class": "AdamW", "optimizer": 1, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]}

RUN = {
    "schema_version": 1,
    "created": "2024-01-01T00:00:00+00:00",
    "command": "train.py --fast",
    "commit": "0123abc-dirty",
    "versions": {"python": "3.11"},
    "every": 4,
    "burst": 2,
    "param_groups": [SGD, SGD | {"weight_decay": 0.0}, ADAM, SGD | {"optimizer": 1}],
    "slices": [
        [1, [["conv.weight", 0, 0, 8]]],
        [1, [["fc.weight", 0, 0, 4]]],
        [1, [["fc.bias", 0, 0, 4]]],
        [1, [["head.weight", 0, 0, 5]]],
    ],
    "slice_param_group": [0, 0, 1, 2],
    "groups": [
        {
            "name": "conv",
            "kind": "scale",
            "numel": 72,
            "defect": 1e-7,
            "slices": [[1, [["conv.weight", 0, 0, 8]]]],
            "cells": [[4, [["conv.weight", 0, 0, 2]]]],
        },
        {
            "name": "fc",
            "kind": "scale",
            "numel": 36,
            "defect": None,
            "slices": [[1, [["fc.weight", 0, 0, 4]]], [1, [["fc.bias", 0, 0, 4]]]],
        },
        {
            "name": "head",
            "kind": "scale",
            "numel": 50,
            "defect": 2e-6,
            "slices": [[1, [["head.weight", 0, 0, 5]]]],
        },
    ],
}

EVENTS = (
    {"kind": "rate_changed", "step": 7, "optimizer": 0, "param_group": 0, "lr": 0.05},
    {"kind": "rescaled", "step": 9, "groups": ["conv"], "factor": 0.5},
    {"kind": "rate_changed", "step": 18, "optimizer": 0, "param_group": 0, "lr": 7.0},  # undone
    {"kind": "closed", "step": 21, "steps": [21, 21]},
    {"kind": "resumed", "step": 16},
    {
        **{"kind": "rate_changed", "step": 23, "optimizer": 1, "param_group": 0},
        **{"lr": 5e-4, "weight_decay": 0.2, "momentum": 0.9},
    },
    {"kind": "rate_changed", "step": 31, "optimizer": 0, "param_group": 0, "lr": 9.0},  # too late
    {"kind": "closed", "step": 30, "steps": [30, 30]},
)


def write_schema1(directory: Path) -> None:
    """Write the run: 0 to 20, resumed at 16, to 29; the head's optimizer begins at step 4."""
    rng = np.random.default_rng(1)
    (directory / "records").mkdir(parents=True)
    (directory / "scalars").mkdir()
    (directory / "cells").mkdir()
    sampled = [step for step in range(30) if step % 4 < 2]
    first = _rows(rng, [step for step in sampled if step < 12], resumed=False)
    second = _rows(rng, [step for step in sampled if 12 <= step < 21], resumed=False)
    third = _rows(rng, [step for step in sampled if step >= 16], resumed=True)
    _write(directory / "records/part-00000000-00000015.parquet", first)
    _write(directory / "records/part-00000003-00000003.parquet", second)  # merged already
    _write(directory / "records/part-00000016-00000016.parquet", second)
    _write(directory / "records/part-00000017-00000017.parquet", third)
    loss = {"step": [0, 1, 2, 1], "name": ["loss"] * 4, "value": [3.0, 2.0, 1.0, 2.5]}
    _write(directory / "scalars/part-00000000-00000000.parquet", pa.table(loss))
    cells: dict[str, Any] = {
        "step": pa.array([0, 8, 8], pa.int64()),
        "group": pa.array([0, 0, 0], pa.int32()),
    }
    for name in PRODUCTS:
        cells[name] = pa.array(rng.normal(size=(3, 4)).tolist(), pa.list_(pa.float64()))
    _write(directory / "cells/part-00000000-00000000.parquet", pa.table(cells))
    lines = [json.dumps({"time": "2024-01-01T00:00:00+00:00"} | event) for event in EVENTS]
    (directory / "events.jsonl").write_text("".join(line + "\n" for line in lines))
    (directory / "run.lock").write_text("pid 1 on host\n")
    (directory / "run.json").write_text(json.dumps(RUN) + "\n")


def _rows(rng: np.random.Generator, steps: list[int], *, resumed: bool) -> pa.Table:
    columns: dict[str, list[float]] = {name: [] for name in ("step", "slice", *PRODUCTS, *SETTINGS)}
    for step in steps:
        rate = 0.1 if step < 7 else 0.05 if step < 18 or resumed else 7.0
        momentum = 0.9 if step < 25 else 0.5
        head = (1e-3, 0.1) if step < 23 else (5e-4, 0.2)
        for number in range(4):
            if (number == 3 and step < 4) or (number == 2 and step == 9):
                continue
            w, d, g = rng.normal(size=(3, 6)) * [[1.0 + number], [1e-2], [1.0]]
            products = (w @ w, w @ d, d @ d, w @ g, g @ g, d @ g)
            told = (rate, 0.0 if number == 2 else 5e-4, momentum, math.nan)
            told = (*head, 0.9, 0.99) if number == 3 else told
            for name, value in zip(columns, (step, number, *products, *told), strict=True):
                columns[name].append(value)
    types = {"step": pa.int64(), "slice": pa.int32()}
    arrays = {n: pa.array(c, types.get(n, pa.float64())) for n, c in columns.items()}
    return pa.table(arrays)


def _write(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="zstd")


def snapshot(records: Any) -> dict[str, Any]:
    """What every method of `Records` returned at the time, as JSON."""
    values: dict[str, Any] = {
        "groups": records.groups,
        "steps": records.steps,
        "mixed": dict(records.mixed),
        "main_slices": records.main_slices,
        "index": [records.index(name) for name in records.groups],
        "events": records.events,
        "scalars": {name: list(series) for name, series in records.scalars.items()},
        "repr": repr(records).split(":", 1)[1],
        "members": records.info.members,
        "every": [records.info.every, records.info.burst],
        "table": records.to_arrow().to_pydict(),
        "columns": list(records.to_pandas().columns),
    }
    for name in PRODUCTS:
        values[f"gram.{name}"] = getattr(records.gram, name)
        values[f"slice_gram.{name}"] = getattr(records.slice_gram, name)
    for name in SETTINGS:
        values[name] = getattr(records, name)
    for name in DERIVED:
        values[name] = getattr(records, name)()
    for group in records.groups:
        schedule = records.schedule(group)
        values[f"schedule.{group}"] = {
            "start": schedule.start,
            "lr": schedule.lr,
            "weight_decay": schedule.weight_decay,
            "momentum": schedule.momentum,
            "stages": [[s.start, s.stop, s.hp and s.hp.lr] for s in schedule.stages()],
            "hp": str(schedule.at(schedule.start)),
        }
        steps, gram = records.cells(group)
        values[f"cells.{group}"] = [steps, *(getattr(gram, name) for name in PRODUCTS)]
    return json.loads(json.dumps(values, default=lambda value: value.tolist()))
