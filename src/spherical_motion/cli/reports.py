"""`smd report DIR`: a comparison as a page with charts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherical_motion.cli.comparing import Ignored
from spherical_motion.cli.printing import working
from spherical_motion.comparison import compare
from spherical_motion.notices import printable
from spherical_motion.reporting import report


def report_command(
    directory: Annotated[str, typer.Argument(help="A run directory.", metavar="DIR")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write; DIR/report.html if left out."),
    ] = None,
    ignore: Ignored = None,
) -> None:
    """Write one HTML file with verdicts and charts; it needs no network to be read.

    Example: smd report runs/demo --out report.html

    Exits with 2 if lost data leave nothing to judge.
    """
    with working("reading, judging and drawing"):
        comparison = compare(directory, ignore=ignore or ())
        path = report(comparison, out)
    print(printable(str(path)))
    raise typer.Exit(2 if comparison.lost else 0)
