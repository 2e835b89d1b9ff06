"""Fixtures that every room's tests may use."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from simulated import Settings

from spherical_motion.records import RunInfo, RunWriter
from spherical_motion.vocabulary import InvariantGroup, Slice


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write products of one or several groups into a run directory; returns the directory.

    Products have shape (steps, 6 to 8).
    """
    count = 0

    def write(
        products: dict[str, np.ndarray],
        settings: list[Settings],
        *,
        defect: float = 1e-6,
        optimizer: dict | None = None,
        steps: list[int] | None = None,
        numel: int = 60,
        kind: Literal["scale", "plain"] = "scale",
    ) -> Path:
        nonlocal count
        count += 1
        groups = []
        for name in products:
            piece = Slice(f"{name}.weight", 0, 0, 4)
            cells = ((piece,),) if kind == "scale" else ()
            groups.append(InvariantGroup(name, kind, (piece,), cells, numel, defect))
        lr, weight_decay, momentum = settings[0]
        told = {"class": "SGD", "optimizer": 0, "lr": lr, "weight_decay": weight_decay}
        told |= {"momentum": momentum} | (optimizer or {})
        info = RunInfo(
            groups=tuple(groups),
            param_groups=(told,),
            slice_param_group=(0,) * len(groups),
            products=next(iter(products.values())).shape[1],
        )
        directory = tmp_path / f"run{count}"
        numbers = range(len(settings)) if steps is None else steps
        beta2 = told.get("betas", [math.nan, math.nan])[1]
        with RunWriter(directory, info) as writer:
            for i in numbers:
                rows = np.stack([products[name][i] for name in products])
                writer.settings(i, 0, (*settings[i], beta2))
                writer.rows(i, rows)
        return directory

    return write
