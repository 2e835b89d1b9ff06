"""The one line for people in a hurry: find the groups and watch them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import torch

from spherical_motion.invariance import find_groups
from spherical_motion.monitor.monitor import Monitor
from spherical_motion.monitor.ownership import stepped_groups
from spherical_motion.records import read_info

__all__ = ["watch"]


def watch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    example_inputs: Any,
    directory: str | os.PathLike[str] | None = None,
    *,
    granularity: Literal["layer", "filter"] = "layer",
    **options: Any,
) -> Monitor:
    """Find the scale-invariant groups of a model and record their motion from now on.

    `find_groups` and `Monitor` in one: see there for details and errors. With `resume=True` the
    groups are those the run began with, and the model is not probed again. Groups of which no
    member is stepped by the optimizer (fine-tuning a part) are left out, which is printed.

    Args:
        model: in the mode it trains in; comes back bit-identical.
        optimizer: the optimizer, or several.
        example_inputs: one batch: tensor → model(x), tuple → model(*x), mapping → model(**x).
        directory: where to record; left out, `runs/<date and time>`.
        granularity: "layer" or "filter".
        options: of `Monitor`: every, burst, cells_every, resume, first_step, steps, quiet.

    Returns:
        The attached `Monitor`; close it, or use it as a context manager.

    Raises:
        NoInvariantGroup: nothing in the model is scale-invariant.
        ModelError: the model cannot be probed on these inputs.
    """
    if options.get("resume") and directory is not None:
        # Rows that died since would not be certified again: go on with what the run began with.
        groups = read_info(directory).groups
    else:
        groups = find_groups(model, example_inputs, granularity)
        groups = stepped_groups(model, optimizer, groups)
    return Monitor(model, optimizer, groups, directory, **options)
