"""`smd inspect MODEL`: which groups are scale-invariant, how exactly, and why others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from spherical_motion.cli.printing import print_json, stdout

if TYPE_CHECKING:
    from spherical_motion.invariance import Inspection

__all__ = ["inspect_command"]


def inspect_command(
    model: Annotated[str, typer.Argument(help="A recipe, or module:factory.", metavar="MODEL")],
    input: Annotated[
        str | None, typer.Option("--input", help="Shape of one example, like 3x224x224.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples in the probing batch.")] = 16,
    granularity: Annotated[
        Literal["layer", "filter"], typer.Option(help="One group a layer, or one a filter.")
    ] = "layer",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Find a model's scale-invariant groups by probe and certificate, and explain the rest.

    Example: smd inspect digits

    Example: smd inspect mymodels:resnet20 --input 3x32x32

    Exits with 1 if there is no invariant group.
    """
    from spherical_motion.compat import load_model, random_input
    from spherical_motion.errors import InvalidArgument
    from spherical_motion.invariance import inspect_model
    from spherical_motion.recipes import RECIPES, recipe

    if model in RECIPES:
        network, _, example = recipe(model).build()
        example = example[:batch_size]
    else:
        network = load_model(model)
        example = None
    if input is not None:
        example = random_input(input, batch_size)
    if example is None:
        raise InvalidArgument(f"smd inspect {model} needs --input, like --input 3x224x224.")
    found = inspect_model(network, example, granularity)
    if json:
        print_json(
            {
                "groups": [
                    {
                        "name": group.name,
                        "kind": group.kind,
                        "slices": [str(s) for s in group.slices],
                        "cells": len(group.cells),
                        "numel": group.numel,
                        "defect": group.defect,
                    }
                    for group in found.groups
                ],
                "not_invariant": [
                    {"parameter": u.parameter, "reason": u.reason} for u in found.uncovered
                ],
                "coverage": found.coverage,
                "passes": found.passes,
                "bit_identical": found.bit_identical,
                "warnings": list(found.warnings),
            }
        )
    else:
        _print(found)
    raise typer.Exit(0 if found.groups else 1)


def _print(found: Inspection) -> None:
    console = stdout()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    for name in ("members", "cells", "entries", "defect"):
        table.add_column(name, justify="right")
    for group in found.groups:
        members = ", ".join(group.parameters)
        table.add_row(
            group.name, members, f"{len(group.cells):,}", f"{group.numel:,}", f"{group.defect:.1e}"
        )
    console.print(f"{len(found.groups)} scale-invariant groups", style="bold")
    console.print(table)
    if found.uncovered:
        console.print("\nNot in a group", style="bold")
        rest = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        rest.add_column(no_wrap=True)
        rest.add_column()
        for entry in found.uncovered:
            rest.add_row(entry.parameter, entry.reason)
        console.print(rest)
    for warning in found.warnings:
        console.print(f"\nnote: {warning}", markup=False)
    exact = "bit-identical" if found.bit_identical else "equal to rounding"
    console.print(
        f"\n{found.coverage:.1%} of all parameters; {found.passes} forward and backward passes; "
        f"rescaled by powers of two, the output was {exact}."
    )
