"""A small run with several parts in every table, for tests that damage it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from given import give

from spherical_motion.records import AUDIT_SUMS, RunInfo, RunWriter
from spherical_motion.vocabulary import EventKind, InvariantGroup, Slice

TABLES = ("records", "settings", "scalars", "cells", "correlation", "audit", "audit_steps")
PARTS = 4
STEPS = 30
"""Steps in each part."""

SGD = {"class": "SGD", "optimizer": 0, "lr": 0.1, "weight_decay": 5e-3, "momentum": 0.9}


def full_info() -> RunInfo:
    """Groups conv, of four cells, and fc, whose bias is not decayed."""
    conv = tuple(Slice("conv.weight", 0, 2 * i, 2 * i + 2) for i in range(4))
    weight, bias = Slice("fc.weight", 0, 0, 4), Slice("fc.bias", 0, 0, 4)
    cells = tuple((piece,) for piece in conv)
    return RunInfo(
        groups=(
            InvariantGroup("conv", "scale", (Slice("conv.weight", 0, 0, 8),), cells, 72, 1e-7),
            InvariantGroup("fc", "scale", (weight, bias), ((weight, bias),), 36),
        ),
        param_groups=(SGD, {**SGD, "weight_decay": 0.0}),
        slice_param_group=(0, 0, 1),
        created="2024-01-01T00:00:00+00:00",
        versions={"torch": "2.13.0"},
        dtypes={"conv.weight": "float32"},
    )


def write_full_run(directory: Path) -> Path:
    """Write a run whose weights turn by a steady angle; every table has `PARTS` parts."""
    rng = np.random.default_rng(7)
    with RunWriter(directory, full_info()) as writer:
        for step in range(PARTS * STEPS):
            rate = 0.1 / (1 + step // STEPS)
            give(writer, step, [(rate, decay, 0.9, None) for decay in (5e-3, 0.0)])
            writer.rows(step, _products(rng))
            writer.scalars(step, {"loss": 1 / (step + 1), "accuracy": 0.5})
            writer.cells(step, 0, rng.normal(size=(4, 6)) ** 2)
            writer.correlation(step, 0, [1.0, 0.5, 0.2], 2.0)
            writer.audit(step, [0, 1, 2], np.tile(_audited(rng), (3, 1)))
            writer.audit_step(step, 0, step + 1.0, step + 1.0, 1.0, "")
            if step % STEPS == STEPS - 1:
                writer.own_event(
                    EventKind.RATE_CHANGED, step=step, optimizer=0, param_group=0, lr=rate / 2
                )
                writer.flush()
        writer.own_event(EventKind.CLOSED, step=PARTS * STEPS, steps=[PARTS * STEPS])
    return directory


def _products(rng: np.random.Generator) -> np.ndarray:
    """Products of three slices at one step: ww, wd, dd, wg, gg, dg."""
    w = rng.normal(1.0, 0.01, 3)
    d, g = 0.01 * rng.normal(1.0, 0.1, 3), rng.normal(1.0, 0.1, 3)
    return np.stack([w * w, -0.5 * d * d, d * d, 0 * w, g * g, -0.1 * d * g], axis=1)


def _audited(rng: np.random.Generator) -> list[float]:
    """The sums of a step that is what the rule makes of it."""
    d = 1e-4 * float(rng.normal(1.0, 0.1))
    same = dict.fromkeys(("dd", "ee", "de"), d * d) | {"wd": -d * d, "we": -d * d}
    others = {"ww": 1.0, "gg": 1.0, "peak": 0.1, "at_peak": 1.0, "largest": 1.0, "epsilon": 1e-5}
    return [(same | others).get(name, 0.0) for name in AUDIT_SUMS]


def part_of(directory: Path, table: str, number: int) -> Path:
    """The part of a table with this number."""
    return directory / table / f"part-{number:08d}-{number:08d}.parquet"
