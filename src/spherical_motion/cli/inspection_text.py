"""An inspection as tables in a terminal, and as plain data for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spherical_motion.cli.merging import merged_reasons
from spherical_motion.cli.printing import stdout
from spherical_motion.notices import printable
from spherical_motion.vocabulary import InvariantGroup
from spherical_motion.vocabulary.groups import module_of

if TYPE_CHECKING:
    from spherical_motion.invariance import Inspection, Uncovered

SPELLED_OUT = 3
"""Parameters of a larger group are counted in the table and listed below it."""


def inspection_to_plain(found: Inspection, seconds: float) -> dict[str, Any]:
    """All that an inspection holds; NaN becomes null when printed."""
    return {
        "groups": [_group_to_plain(group) for group in found.groups],
        "rescalings": [_group_to_plain(group) for group in found.rescalings],
        "not_invariant": [
            {"parameter": entry.parameter, "reason": entry.reason, "cause": entry.cause}
            for entry in found.uncovered
        ],
        "coverage": found.coverage,
        "passes": found.passes,
        "repairs": found.repairs,
        "forwards": found.forwards,
        "backwards": found.backwards,
        "seconds": seconds,
        "bit_identical": found.bit_identical,
        "warnings": list(found.warnings),
        "notes": list(found.notes),
    }


def _group_to_plain(group: InvariantGroup) -> dict[str, Any]:
    plain = {
        "name": group.name,
        "kind": group.kind,
        "slices": [str(part) for part in group.slices],
        "cells": len(group.cells),
        "granularity": extent(group),
        "numel": group.numel,
        "defect": group.defect,
        "defect_error": group.defect_error,
    }
    return plain | ({"powers": list(group.powers)} if group.powers else {})


def print_inspection(found: Inspection, seconds: float) -> None:
    """Print groups, rescaling symmetries, reasons for the rest, notes and the cost."""
    console = stdout()
    count = len(found.groups)
    console.print(f"{count} scale-invariant group{'s' * (count != 1)}", style="bold")
    if found.groups:
        console.print(_group_table(found.groups, members=members, kind=lambda group: group.kind))
        for group in found.groups:
            if len(group.parameters) > SPELLED_OUT:
                console.print(Text(f"\nMembers of {printable(group.name)}:"))
                console.print(Padding(Text(printable(", ".join(group.parameters))), (0, 0, 0, 2)))
    if found.rescalings:
        console.print("\nRescaling symmetries: members trade scale, so no prediction", style="bold")
        console.print(_group_table(found.rescalings, powers=_powers))
    if found.uncovered:
        console.print("\nNot in a group", style="bold")
        console.print(_reasons(found.uncovered))
    for label, lines in (("warning", found.warnings), ("note", found.notes)):
        for line in lines:
            console.print(f"\n{label}: {printable(line)}", markup=False)
    console.print(_summary(found, seconds), markup=False)


def extent(group: InvariantGroup) -> str:
    """How many cells a group has, and how large they are.

    >>> from spherical_motion.vocabulary import Slice
    >>> rows = [Slice("w", 0, i, i + 1) for i in range(8)]
    >>> extent(InvariantGroup("w", "scale", (Slice("w", 0, 0, 8),), tuple((r,) for r in rows), 24))
    '8 rows'
    >>> extent(InvariantGroup("w", "scale", (Slice("w", 0, 0, 8),), ((Slice("w", 0, 0, 8),),), 24))
    'whole'
    """
    if not group.cells:
        return ""
    first, *others = group.cells
    lead = first[0]
    together = " jointly" if len(first) > 1 else ""
    if not others:
        entire = set(first) == set(group.slices)
        return (together.strip() or "whole") if entire else f"1 part{together}"
    kind = "columns" if lead.axis else "rows"
    part = kind if lead.length == 1 else f"blocks of {lead.length} {kind}"
    return f"{len(group.cells):,} {part}{together}"


def members(group: InvariantGroup) -> str:
    """The parameters of a group, without the module they share; many are only counted."""
    names = group.parameters
    if len({module_of(name) for name in names}) == 1 and len(names) <= SPELLED_OUT:
        names = [name.rpartition(".")[2] for name in names]
    return _spelled_out(names)


def _spelled_out(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= SPELLED_OUT else f"{len(names)} parameters"


def _plain_table(*columns: str, show_header: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _group_table(
    groups: Sequence[InvariantGroup], **columns: Callable[[InvariantGroup], str]
) -> Table:
    """A row for each group; `columns` stand between its name and its cells."""
    table = _plain_table("group", *columns, "granularity")
    for name in ("entries", "defect ± error"):
        table.add_column(name, justify="right", no_wrap=True, overflow="fold")
    for group in groups:
        given = (Text(printable(text(group))) for text in columns.values())
        numbers = f"{group.numel:,}", _defect(group)
        table.add_row(Text(printable(group.name)), *given, extent(group), *numbers)
    return table


def _powers(group: InvariantGroup) -> str:
    """The members of each power; many are only counted."""
    by_power: dict[float, dict[str, None]] = {}
    for part, power in zip(group.slices, group.powers, strict=True):
        by_power.setdefault(power, {})[part.parameter] = None
    return "; ".join(f"{power:+g}: {_spelled_out([*names])}" for power, names in by_power.items())


def _reasons(uncovered: Sequence[Uncovered]) -> Table:
    """A row for each parameter; parameters of repeated modules with one reason share a row."""
    table = _plain_table("parameter", "reason", show_header=False)
    for names, reason in merged_reasons(uncovered):
        more = f"\nand {len(names) - 1} alike" if len(names) > 1 else ""
        table.add_row(Text(printable(names[0]) + more), Text(printable(reason)))
    return table


def _defect(group: InvariantGroup) -> str:
    if math.isnan(group.defect_error):
        return f"{group.defect:.1e}"
    return f"{group.defect:.1e} ± {group.defect_error:.0e}"


def _summary(found: Inspection, seconds: float) -> str:
    exact = ""
    if found.groups:
        exact = "; rescaled by powers of two, the outputs were " + (
            "bit-identical" if found.bit_identical else "equal to rounding"
        )
    return f"\n{found.coverage:.1%} of all entries; {_cost(found)}, {seconds:.1f} s{exact}."


def _cost(found: Inspection) -> str:
    """How often the model ran: passes, further forwards and backwards, and repairs."""
    further = {"forward": found.forwards, "backward": found.backwards}
    besides = [_counted(count, what) for what, count in further.items() if count]
    cost = _counted(found.passes, "forward and backward pass")
    if besides:
        cost += f", {' and '.join(besides)} besides"
    if found.repairs:
        cost += f", {found.repairs} of the passes {'a repair' if found.repairs == 1 else 'repairs'}"
    return cost


def _counted(count: int, what: str) -> str:
    ending = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count} {what}{ending}"
