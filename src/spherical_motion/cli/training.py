"""`smd train RECIPE`: train an embedded workload with the monitor attached."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spherical_motion.cli.printing import comparison_to_plain, print_comparison, print_json
from spherical_motion.comparison import compare
from spherical_motion.notices import printable

if TYPE_CHECKING:
    import torch


def train_command(
    name: Annotated[str, typer.Argument(help="Which recipe: digits.", metavar="RECIPE")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory; runs/RECIPE if left out.")
    ] = None,
    groups: Annotated[
        Literal["certified", "all", "plain"],
        typer.Option(help="What to watch: what is proven invariant, every matrix, or no proof."),
    ] = "certified",
    every: Annotated[
        int, typer.Option(min=1, help="A measurement starts every so many steps.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of weights and batches.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Train a recipe with the monitor attached, then compare it with the theory.

    Example: smd train digits --out runs/first --every 10

    Example: smd train digits --groups all

    Exits with 1 if a group needs attention, like smd compare.
    """
    directory = train_watched(
        name, out or free_directory(name), groups=groups, every=every, seed=seed
    )
    comparison = compare(directory)
    if json:
        print_json(comparison_to_plain(comparison))
    else:
        print_comparison(comparison)
        shown = printable(str(directory))
        print(f"\nrun     {shown}\nreport  smd report {shown}")
    raise typer.Exit(1 if comparison.alarms else 0)


def train_watched(
    name: str,
    directory: Path,
    *,
    groups: Literal["certified", "all", "plain"] = "certified",
    every: int = 1,
    seed: int = 0,
) -> Path:
    """Train recipe `name` into `directory` with a progress bar; returns the directory."""
    import dataclasses

    from spherical_motion.monitor import watch
    from spherical_motion.recipes import recipe

    workload = dataclasses.replace(recipe(name), seed=seed)
    model, optimizer, images = workload.build()
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with (
        watch(
            model,
            optimizer,
            images,
            directory,
            groups=groups,
            every=every,
            steps=workload.steps,
        ) as monitor,
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task(f"training {name}", total=workload.steps, loss=float("nan"))

        def on_step(step: int, scalars: dict[str, torch.Tensor]) -> None:
            monitor.log(**scalars)
            loss = float(scalars["loss"])
            if step % 25 == 0 or step + 1 == workload.steps:
                progress.update(task, completed=step + 1, loss=loss)
            if progress.disable and (step + 1) % (workload.steps // 10 or 1) == 0:
                print(f"step {step + 1:,} of {workload.steps:,}, loss {loss:.3f}", file=sys.stderr)

        accuracy = workload.train(model, optimizer, on_step)
    print(f"trained {workload.steps:,} steps; test accuracy {accuracy:.1%}", file=sys.stderr)
    return directory


def free_directory(name: str) -> Path:
    """`runs/NAME`, or `runs/NAME-2` and so on if that is taken."""
    names = (Path("runs") / (name if n == 1 else f"{name}-{n}") for n in itertools.count(1))
    return next(path for path in names if not path.exists())
