"""How results look in a terminal, shared by the commands."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from spherical_motion.comparison import Comparison, Row, known_columns
from spherical_motion.notices import printable
from spherical_motion.vocabulary import Stage

WIDTH_WITHOUT_TERMINAL = 160
WIDE = 140
"""From this width on reasons stand in the table, else below it."""

BALANCE = (
    *("balance", "balance_interval", "balance_unknown", "pull", "pull_interval"),
    *("decay_share", "decay_share_interval", "growth", "growth_interval", "words"),
)
NUMBERS = (
    *("measured", "predicted", "ratio", "interval", "equilibrium", "samples"),
    *BALANCE,
)
"""Attributes of a row that JSON takes as they are."""


class SafeConsole(Console):
    """A console that shows control characters in what it prints and never sends them.

    A run's names may hold anything, and a terminal obeys escape sequences. The console's own are
    made later, from styles.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of a renderable, their text made printable; line breaks stay."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, lines=True), style, control)


def stdout() -> Console:
    """A console on standard output that is wide enough for a table when it is a pipe."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return SafeConsole(width=width, highlight=False)


def with_plain_names(text: str, names: Iterable[str]) -> str:
    r"""`text` of several lines in which no name can make a line of its own.

    >>> with_plain_names("a\nb: off\nc: fine", ["a\nb", "c"])
    'a\\nb: off\nc: fine'
    """
    for name in names:
        if not name.isprintable():
            text = text.replace(name, printable(name))
    return text


def working(what: str) -> AbstractContextManager[object]:
    """A spinner on standard error if that is a terminal, else nothing."""
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()


def number_table(*names: str, label: str = "") -> Table:
    """A table without lines: a left-aligned column if `label` names one, then aligned right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    if label:
        table.add_column(label, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_comparison(comparison: Comparison) -> None:
    """The findings in sentences, then one table a stage."""
    console = stdout()
    numbers = dict.fromkeys((row.number, row.stage) for row in comparison)
    for number, stage in numbers:
        rows = [row for row in comparison if (row.number, row.stage) == (number, stage)]
        heading = f"Stage {number}: {stage.settings}, steps {stage.start:,} to {stage.stop:,}"
        console.print(f"\n{heading}", style="bold")
        wide = console.width >= WIDE
        console.print(_table(rows, reasons=wide))
        for row in rows if not wide else ():
            line = printable(f"{row.group}: {row.verdict.reason}.")
            console.print(line.replace("?.", "?"), markup=False)
    console.print("\nWhat this says", style="bold")
    for sentence in comparison.findings:
        console.print(f"• {printable(sentence)}", markup=False)


def _table(rows: list[Row], reasons: bool = True) -> Table:
    columns = known_columns(rows)
    table = number_table(*columns, label="group")
    table.add_column("verdict", no_wrap=not reasons)
    for row in rows:
        colour = row.tone.colour
        table.add_row(
            escape(printable(row.group)),
            *(column.text(row) for column in columns.values()),
            f"[{colour}]{row.verdict.kind.value}[/]{row.beside}"
            + (f": {escape(printable(row.verdict.reason))}" if reasons else ""),
        )
    return table


def number_text(value: float, spec: str = ".3g") -> str:
    """A number, or a dash for one that is not finite."""
    return format(value, spec) if math.isfinite(value) else "–"


def stage_to_plain(number: int, stage: Stage) -> dict[str, float | None]:
    """Number, range and settings of a stage, ready for JSON; settings are null where they vary."""
    settings = {name: getattr(stage.hp, name, None) for name in ("lr", "weight_decay", "momentum")}
    return {"stage": number, "start": stage.start, "stop": stage.stop, **settings}


def comparison_to_plain(comparison: Comparison) -> dict[str, object]:
    """Everything in a comparison, ready for JSON; NaN becomes null."""
    return {
        "directory": str(comparison.directory),
        "findings": list(comparison.findings),
        "rows": [
            {
                "group": row.group,
                **stage_to_plain(row.number, row.stage),
                **{name: getattr(row, name) for name in NUMBERS},
                "forces": dataclasses.asdict(row.tug.forces),
                "verdict": row.verdict.kind.value,
                "alarm": row.alarm,
                "acknowledged": row.acknowledged,
                "suspect": row.verdict.suspect.name if row.verdict.suspect else None,
                "reason": row.verdict.reason,
                "evidence": dict(row.verdict.evidence),
            }
            for row in comparison
        ],
    }


def print_json(value: object) -> None:
    """Strict JSON on standard output; what a terminal would obey or hide is escaped as in JSON."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    if not text.isprintable():
        text = "".join(c if c == "\n" or printable(c) == c else json.dumps(c)[1:-1] for c in text)
    print(text)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
