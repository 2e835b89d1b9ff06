"""`smd compare DIR`: a recorded run beside the theory."""

from __future__ import annotations

from typing import Annotated

import typer

from spherical_motion.cli import printing
from spherical_motion.comparison import BAND, compare

Ignored = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        help="An alarm that you know of: a group, or group:SUSPECT; * and ? match. May repeat.",
        metavar="NAME[:SUSPECT]",
    ),
]
"""Alarms that the user acknowledges."""


def compare_command(
    directory: Annotated[str, typer.Argument(help="A run directory.", metavar="DIR")],
    ignore: Ignored = None,
    band: Annotated[
        float,
        typer.Option("--band", help="How far from 1 the interval of the angle's ratio may reach."),
    ] = BAND,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare a recorded run with the theory: angle, ratio and verdict per group and stage.

    Example: smd compare runs/demo

    Exits with 1 if a verdict is an alarm that no --ignore acknowledges: weights or steps that
    are not the optimizer's, an altered or missing gradient, a lost invariance, NaN or infinity.
    Exits with 2 if lost data leave nothing to judge.
    """
    with printing.working("reading and judging"):
        comparison = compare(directory, ignore=ignore or (), band=band)
        code = 2 if comparison.lost else int(bool(comparison.alarms))
    if json:
        printing.print_json(printing.comparison_to_plain(comparison))
    else:
        printing.print_comparison(comparison)
    raise typer.Exit(code)
