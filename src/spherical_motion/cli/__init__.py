"""The command line `smd`: options go in, tables, charts and reports come out.

Each command has a file that parses, calls the library and prints. Exit codes: 0 fine, 1 the motion
falls short of the theory, 2 bad input.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from spherical_motion import __version__
from spherical_motion.cli.auditing import audit_command
from spherical_motion.cli.comparing import compare_command
from spherical_motion.cli.demo import demo_command
from spherical_motion.cli.forecasting import forecast_command
from spherical_motion.cli.inspecting import inspect_command
from spherical_motion.cli.planning import plan_command
from spherical_motion.cli.reports import report_command
from spherical_motion.cli.simulating import simulate_command
from spherical_motion.cli.training import train_command
from spherical_motion.errors import SphericalMotionError
from spherical_motion.notices import printable

__all__ = ["app", "main"]

app = typer.Typer(
    name="smd",
    help="Measure and predict how the weights of normalized networks move on the sphere.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"spherical-motion {__version__}")
        raise typer.Exit


app.command("demo")(demo_command)
app.command("train")(train_command)
app.command("inspect")(inspect_command)
app.command("compare")(compare_command)
app.command("audit")(audit_command)
app.command("report")(report_command)
app.command("forecast")(forecast_command)
app.command("plan")(plan_command)
app.command("simulate")(simulate_command)


def main() -> None:
    """Run `smd`; a user's mistake ends with one line and exit code 2, not with a traceback."""
    try:
        app(prog_name="smd")
    except (SphericalMotionError, OSError) as error:
        print(f"smd: {printable(str(error), lines=True)}", file=sys.stderr)
        sys.exit(2)
