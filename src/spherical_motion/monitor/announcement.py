"""The line that says what is watched and what recording it will take."""

from __future__ import annotations

from pathlib import Path

import torch

from spherical_motion.records import RunInfo
from spherical_motion.records.schema import BYTES_PER_ROW


def greeting(
    model: torch.nn.Module, info: RunInfo, directory: Path, steps: int, memory: int
) -> str:
    """How much of `model` is watched, how often, and the bytes on disk for `steps` steps."""
    share = sum(group.numel for group in info.groups) / sum(
        parameter.numel() for parameter in model.parameters()
    )
    size = steps * info.burst / info.every * len(info.slices) * BYTES_PER_ROW
    often = "every step" if info.every == 1 else f"{info.burst} of every {info.every} steps"
    return (
        f"watching {len(info.groups)} groups ({min(share, 1.0):.0%} of all parameters) at {often} "
        f"→ {directory} (about {_bytes(size)} for {steps:,} steps; {_bytes(memory)} of memory)"
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
