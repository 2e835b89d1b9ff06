"""Three recorded runs: what is read back of them, and what comparing them with theory says."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import spherical_motion as smd
from frozen.flat import Value, flatten
from frozen.networks import convolutions, linear

__all__ = ["values"]

DERIVED = ("angle", "norm", "norm_after", "unit_gradient_norm", "defect", "effective_lr")


def values() -> Iterator[Value]:
    """All keys and values of the room."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        _run_sgd(folder / "sgd")
        _run_adamw(folder / "adamw")
        _run_nesterov(folder / "nesterov")
        for name in ("sgd", "adamw", "nesterov"):
            yield from _read(name, smd.read(folder / name))
            yield from _compared(name, smd.compare(folder / name))


def _run_sgd(directory: Path) -> None:
    """Every step of SGD with momentum, two stages, by the one line."""
    problem = convolutions()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1, momentum=0.8, weight_decay=0.05)
    monitor = smd.watch(problem.model, optimizer, problem.inputs, directory, quiet=True)
    for step in range(240):
        if step == 160:
            optimizer.param_groups[0]["lr"] = 0.05
        loss = problem.step(optimizer, step)
        monitor.log(loss=loss)
    monitor.close()


def _run_adamw(directory: Path) -> None:
    """One step in five of AdamW, filter by filter, with cells."""
    problem = convolutions(bias=True)
    optimizer = torch.optim.AdamW(problem.model.parameters(), lr=5e-3, weight_decay=1.0)
    groups = smd.find_groups(problem.model, problem.inputs, "filter")
    with smd.Monitor(
        problem.model, optimizer, groups, directory, every=5, cells_every=50, quiet=True
    ) as monitor:
        for step in range(200):
            problem.step(optimizer, step)
            if step == 100:
                monitor.event("halfway", size=3)


def _run_nesterov(directory: Path) -> None:
    """Bursts of three steps of Nesterov under a cosine, then without decay; closed and resumed."""
    problem = linear()
    optimizer = torch.optim.SGD(
        problem.model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.02, nesterov=True
    )
    groups = smd.find_groups(problem.model, problem.inputs)
    for part, resume in ((range(100), False), (range(100, 240), True)):
        with smd.Monitor(
            problem.model, optimizer, groups, directory, every=8, burst=3, resume=resume, quiet=True
        ):
            for step in part:
                if step < 120:
                    optimizer.param_groups[0]["lr"] = 0.05 * math.cos(step / 200.0)
                if step == 160:
                    optimizer.param_groups[0]["weight_decay"] = 0.0
                problem.step(optimizer, step)


def _read(name: str, records: Any) -> Iterator[Value]:
    yield f"{name}/groups", list(records.groups)
    yield (
        f"{name}/steps",
        [len(records.steps), *records.steps[:: max(1, len(records.steps) // 9)].tolist()],
    )
    yield f"{name}/events", [[e["kind"], e["step"]] for e in records.events]
    yield f"{name}/scalars", sorted(records.scalars)
    rows = np.linspace(0, len(records.steps) - 1, 9).astype(int)
    columns = np.linspace(0, len(records.groups) - 1, min(4, len(records.groups))).astype(int)
    for what in DERIVED:
        for column in columns:
            array = getattr(records, what)()[rows, column]
            yield f"{name}/{what}/{records.groups[column]}", array.tolist()
    for what in ("lr", "weight_decay", "momentum", "beta2"):
        yield f"{name}/{what}", getattr(records, what)[rows, 0].tolist()
    grams = records.gram.to_array()[rows[::2]][:, columns]
    for column in range(grams.shape[1]):
        for field, product in enumerate(("ww", "wd", "dd", "wg", "gg", "dg")):
            key = f"{name}/{product}/{records.groups[columns[column]]}"
            yield key, grams[:, column, field].tolist()
    for scalar, series in records.scalars.items():
        yield f"{name}/scalar/{scalar}", series.values[:: len(series.values) // 8].tolist()
    stages = records.schedule(records.groups[0]).stages()
    yield from flatten(f"{name}/stages", stages)
    if name == "adamw":
        steps, gram = records.cells(records.groups[0])
        yield f"{name}/cells/steps", steps.tolist()
        yield f"{name}/cells/ww", gram.ww.ravel()[:8].tolist()


def _compared(name: str, comparison: Any) -> Iterator[Value]:
    yield f"{name}/compare/len", len(comparison)
    yield f"{name}/compare/told", [len(comparison.findings), len(comparison.alarms)]
    for row in comparison:
        key = f"{name}/compare/{row.group}/{row.number}"
        yield f"{key}/stage", [row.stage.start, row.stage.stop, row.stage.hp is None, row.samples]
        yield f"{key}/verdict", row.verdict.kind.value
        yield from flatten(f"{key}/numbers", dict(row.verdict.evidence))
        yield f"{key}/angles", [row.measured, row.predicted, row.ratio, row.equilibrium]
        yield f"{key}/interval", list(row.interval)
    curves = comparison.curves(comparison.groups[0])
    yield from flatten(f"{name}/curves", curves)
