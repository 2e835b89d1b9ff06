"""Find the groups of a model and watch them, in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from spherical_motion.binding import as_optimizers
from spherical_motion.monitor.choosing import Choice
from spherical_motion.monitor.going_on import groups_to_watch
from spherical_motion.monitor.monitor import Monitor
from spherical_motion.vocabulary import Schedule
from spherical_motion.vocabulary.groups import InvariantGroup

Which: TypeAlias = Literal["certified", "all", "plain"]


def watch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    example_inputs: object = None,
    directory: str | os.PathLike[str] | None = None,
    *,
    groups: Which | Sequence[InvariantGroup] = "certified",
    vectors: bool = False,
    granularity: Literal["layer", "filter"] = "layer",
    every: int = 1,
    burst: int | None = None,
    cells_every: int | None = None,
    correlation_every: int | None = None,
    products: int = 7,
    resume: bool = False,
    first_step: int | None = None,
    steps: int | None = None,
    audit: bool = True,
    plan: Schedule | None = None,
    patience: float = 60.0,
    quiet: bool = False,
) -> Monitor:
    """Choose groups of a model and record their motion from now on. `groups` says which:

    - "certified": those that `find_groups` proves on `example_inputs`. Where nothing is certified,
      all matrices are watched as "plain" ones, and a notice says why.
    - "all": these, and every other matrix that the optimizer steps, see `all_groups`.
    - "plain": every matrix that the optimizer steps. The model is not probed and never runs.
    - a list: these, as `Monitor` takes them.

    With `resume=True` the groups are those the run began with. A notice names what is left out.

    Args:
        model, granularity: as for `find_groups`.
        example_inputs: as for `find_groups`; needed for "certified" and "all". Else for the audit.
        optimizer, directory, every, burst, cells_every, correlation_every, products, resume,
            first_step, steps, audit, plan, patience: as for `Monitor`.
        vectors: gains and biases become plain groups too, where matrices do.
        quiet: print and log nothing about what is watched.

    Returns:
        The attached `Monitor`; close it, or use it in `with`. Not kept, it ends with the optimizer.

    Raises:
        ModelError: the model cannot be probed on these inputs; "plain" needs no probe.
        InvalidArgument: missing `example_inputs`, nothing to watch, or what `Monitor` refuses.

    >>> import tempfile
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 9))
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> with tempfile.TemporaryDirectory() as runs:
    ...     with watch(model, optimizer, directory=runs, groups="plain", quiet=True) as monitor:
    ...         [group.name for group in monitor.groups]
    ['0', '1']
    """
    optimizers = as_optimizers(optimizer, "watch", "optimizer")
    choice = Choice(groups, example_inputs, granularity, vectors, quiet)
    # Rows that died since the run began could not be certified again: it keeps its groups.
    former = directory if resume and isinstance(groups, str) else None
    chosen = groups_to_watch(model, optimizers, choice, former)
    return Monitor(
        model,
        optimizers,
        chosen,
        directory,
        every=every,
        burst=burst,
        cells_every=cells_every,
        correlation_every=correlation_every,
        products=products,
        resume=resume,
        first_step=first_step,
        steps=steps,
        audit=audit,
        example_inputs=None if choice.groups == "plain" else example_inputs,
        plan=plan,
        patience=patience,
        quiet=quiet,
    )
