"""`smd audit DIR`: single steps of a run, replayed by the optimizer's own rule."""

from __future__ import annotations

from typing import Annotated

import typer

from spherical_motion.cli import printing
from spherical_motion.comparison import audit


def audit_command(
    directory: Annotated[str, typer.Argument(help="A run directory.", metavar="DIR")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say which recorded steps are not what the optimizer's rule makes, and what else was seen.

    Example: smd audit runs/demo

    Exits with 1 if something found asks for action, and with 2 if the audited steps were lost.
    """
    with printing.working("reading the audit"):
        found = audit(directory)
        code = 2 if found.lost else int(found.alarm)
    if json:
        printing.print_json(found.to_dict())
    else:
        text = printing.with_plain_names(str(found), [row.group for row in found])
        printing.stdout().print(text, markup=False, soft_wrap=True)
    raise typer.Exit(code)
