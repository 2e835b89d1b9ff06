"""`smd compare DIR`: a recorded run against the theory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherical_motion.cli.printing import comparison_to_plain, print_comparison, print_json
from spherical_motion.comparison import compare

__all__ = ["compare_command"]


def compare_command(
    directory: Annotated[Path, typer.Argument(help="A run directory.", metavar="DIR")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Hold a recorded run against the theory: angle, ratio and verdict per group and stage.

    Example: smd compare runs/demo

    Exits with 1 if a group needs attention: off, frozen, non-finite, or not invariant enough.
    """
    comparison = compare(directory)
    if json:
        print_json(comparison_to_plain(comparison))
    else:
        print_comparison(comparison)
    raise typer.Exit(1 if comparison.alarms else 0)
