"""The name of a run, and the line that says what is watched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.parameter import is_lazy

from spherical_motion.binding import NamedParameters
from spherical_motion.invariance import covered_entries
from spherical_motion.monitor.station import Station
from spherical_motion.records import RunInfo, bytes_per_row
from spherical_motion.records.files.folders import local_path, make_new_folder


def chosen_or_new(directory: str | os.PathLike[str] | None, resume: bool) -> Path:
    """The directory that the user named, or a new one of its own that this makes."""
    if directory is not None or resume:
        return local_path("Monitor", "runs" if directory is None else directory)
    return make_new_folder(Path("runs"))


def announcement(
    model: torch.nn.Module,
    info: RunInfo,
    directory: Path,
    steps: int,
    stations: Sequence[Station],
    goes_on: str,
) -> str:
    """How much of `model` is watched, how often, and the bytes on disk for `steps` steps.

    A second line says where a resumed run goes on.
    """
    named = NamedParameters(model)
    entries = sum(
        0 if is_lazy(parameter) else parameter.numel() for parameter in model.parameters()
    )
    share = covered_entries(info.slices, lambda name: named[name].shape or (1,)) / entries
    memory = sum(station.nbytes for station in stations)
    # A column of NaN takes no space.
    products = max(station.products for station in stations)
    size = steps * info.burst / info.every * len(info.slices) * bytes_per_row(products)
    often = "every step" if info.every == 1 else f"{info.burst} of every {info.every} steps"
    return (
        f"watching {_counted(info)} ({share:.0%} of all parameters) at {often} "
        f"→ {directory} (about {_bytes(size)} for {steps:,} steps; {_bytes(memory)} of memory)"
        + (f"\n{directory} {goes_on}" if goes_on else "")
    )


def _counted(info: RunInfo) -> str:
    """How many groups there are, and how many of them are plain."""
    count, plain = len(info.groups), sum(group.kind == "plain" for group in info.groups)
    ending = "" if count == 1 else "s"
    if plain == count:
        return f"{count} plain group{ending}"
    return f"{count} group{ending}" + (f", {plain} of them plain" if plain else "")


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
