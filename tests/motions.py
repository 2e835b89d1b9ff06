"""Products of several groups, written as a run and read back as motions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spherical_motion import records
from spherical_motion.comparison.motion import Motion, motion_of
from spherical_motion.records import RunInfo, RunWriter
from spherical_motion.vocabulary import EventKind, InvariantGroup, Slice, Stage


def motions_of(
    directory: Path,
    products: Mapping[str, np.ndarray],
    settings: Sequence[tuple[float, ...]],
    *,
    optimizer: Mapping[str, Any] | None = None,
    steps: Sequence[int] | None = None,
    dtype: str = "float32",
    numel: int = 200,
    kind: Literal["scale", "plain"] = "scale",
    defect: float = 1e-6,
    events: Sequence[tuple[str, int]] = (),
) -> dict[str, Motion]:
    """The motion of each group; `settings` (lr, weight_decay, momentum) are those declared."""
    slices = {name: Slice(f"{name}.weight", 0, 0, 4) for name in products}
    cells = {name: ((piece,),) if kind == "scale" else () for name, piece in slices.items()}
    told = {"class": "SGD", "optimizer": 0, "lr": settings[0][0], "momentum": settings[0][2]}
    told |= {"weight_decay": settings[0][1], **(optimizer or {})}
    info = RunInfo(
        groups=tuple(
            InvariantGroup(name, kind, (piece,), cells[name], numel, defect)
            for name, piece in slices.items()
        ),
        param_groups=(told,),
        slice_param_group=(0,) * len(slices),
        products=next(iter(products.values())).shape[1],
        dtypes={f"{name}.weight": dtype for name in products},
    )
    beta2 = told.get("betas", [np.nan, np.nan])[1]
    with RunWriter(directory, info) as writer:
        for i in range(len(settings)) if steps is None else steps:
            for name, _ in (event for event in events if event[1] == i):
                writer.own_event(EventKind(name), step=i)
            writer.settings(i, 0, (*settings[i], beta2))
            writer.rows(i, np.stack([values[i] for values in products.values()]))
    read = records.read(directory)
    return {name: motion_of(read, i) for i, name in enumerate(products)}


def whole(motion: Motion) -> Stage:
    """All recorded steps of a motion as one stage."""
    return Stage(int(motion.steps[0]), int(motion.steps[-1]) + 1, None)
