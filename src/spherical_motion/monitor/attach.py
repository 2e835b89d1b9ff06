"""Find the groups of a model and watch them, in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import torch

from spherical_motion.binding import as_optimizers
from spherical_motion.invariance import find_groups
from spherical_motion.monitor.monitor import Monitor
from spherical_motion.monitor.targets import stepped_groups
from spherical_motion.notices import listed, notify
from spherical_motion.records import read_info


def watch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    example_inputs: object,
    directory: str | os.PathLike[str] | None = None,
    *,
    granularity: Literal["layer", "filter"] = "layer",
    every: int = 1,
    burst: int | None = None,
    cells_every: int | None = None,
    products: int = 7,
    resume: bool = False,
    first_step: int | None = None,
    steps: int | None = None,
    quiet: bool = False,
) -> Monitor:
    """Find the scale-invariant groups of a model and record their motion from now on.

    `find_groups` and `Monitor` in one: see there for details and errors. With `resume=True` the
    groups are those the run began with, and the model is not probed again. A notice names groups
    that are left out because the optimizer steps none of their members (fine-tuning a part).

    Args:
        model, example_inputs, granularity: as for `find_groups`.
        optimizer, directory, every, burst, cells_every, products, resume, first_step, steps:
            as for `Monitor`.
        quiet: print and log nothing about what is watched.

    Returns:
        The attached `Monitor`; close it, or use it as a context manager.

    Raises:
        NoInvariantGroup: nothing in the model is scale-invariant.
        ModelError: the model cannot be probed on these inputs.
    """
    optimizers = as_optimizers(optimizer, "watch", "optimizer")
    if resume and directory is not None:
        # Rows that died since could not be certified again: use the groups the run began with.
        groups = read_info(directory).groups
    else:
        found = find_groups(model, example_inputs, granularity)
        # If the optimizers step no group at all, Monitor raises and says so.
        groups = stepped_groups(model, optimizers, found) or found
        if left := [group.name for group in found if group not in groups]:
            notify(
                f"{len(left)} of {len(found)} groups are not stepped by the optimizer and left "
                f"out: {listed(left, most=5)}",
                quiet=quiet,
            )
    return Monitor(
        model,
        optimizers,
        groups,
        directory,
        every=every,
        burst=burst,
        cells_every=cells_every,
        products=products,
        resume=resume,
        first_step=first_step,
        steps=steps,
        quiet=quiet,
    )
