"""`smd demo`: train, compare and report on real data, in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherical_motion.cli.printing import print_comparison, stdout
from spherical_motion.cli.training import free_directory, train_watched
from spherical_motion.comparison import compare
from spherical_motion.errors import MissingExtra
from spherical_motion.notices import printable

INTRODUCTION = """\
A residual network learns 1,797 real handwritten digits, with batch norm, momentum 0.9, weight
decay 0.01 and a learning rate that drops from 0.1 to 0.01 to 0.001. Every convolution feeds a batch
norm, so only its direction matters. Each step turns it by a small angle. The demo measures it and
compares it with √(2·lr·wd/(1+momentum)), which theory predicts from those three settings alone.
"""


def demo_command(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run directory; runs/demo if left out.")
    ] = None,
) -> None:
    """Train the embedded digits, measure every step, compare with theory, write a report.

    Example: smd demo
    """
    console = stdout()
    console.print(INTRODUCTION)
    directory = train_watched("digits", out or free_directory("demo"))
    comparison = compare(directory)
    print_comparison(comparison)
    console.print(f"\nrun     {printable(str(directory))}", soft_wrap=True, markup=False)
    try:
        from spherical_motion.reporting import report

        written = report(comparison, directory / "report.html")
        where = f"report  {printable(str(written))}  (open it in a browser)"
        console.print(where, soft_wrap=True, markup=False)
    except MissingExtra as missing:
        hint = f"report  not written: {missing} Then: smd report {directory}"
        console.print(hint, soft_wrap=True, markup=False)
