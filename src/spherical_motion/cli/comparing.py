"""`smd compare DIR`: a recorded run beside the theory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherical_motion.cli import printing
from spherical_motion.comparison import compare


def compare_command(
    directory: Annotated[Path, typer.Argument(help="A run directory.", metavar="DIR")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare a recorded run with the theory: angle, ratio and verdict per group and stage.

    Example: smd compare runs/demo

    Exits with 1 if a verdict is an alarm: off, frozen at a rate that is not 0, non-finite, or not
    invariant enough.
    """
    with printing.working("reading and judging"):
        comparison = compare(directory)
        alarms = comparison.alarms
    if json:
        printing.print_json(printing.comparison_to_plain(comparison))
    else:
        printing.print_comparison(comparison)
    raise typer.Exit(1 if alarms else 0)
