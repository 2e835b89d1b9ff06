"""An inspection as tables in a terminal, and as what JSON can say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spherical_motion.cli.merging import merged_reasons
from spherical_motion.cli.printing import stdout
from spherical_motion.vocabulary import InvariantGroup

if TYPE_CHECKING:
    from spherical_motion.invariance import Inspection, Uncovered

SPELLED_OUT = 3
"""A group of more parameters has them listed below the table, and counted in it."""


def inspection_to_plain(found: Inspection, seconds: float) -> dict[str, Any]:
    """Everything an inspection holds; NaN becomes null when printed."""
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
    """Groups, rescaling symmetries, the rest with its reasons, notes, and what it cost."""
    console = stdout()
    count = len(found.groups)
    console.print(f"{count} scale-invariant group{'s' * (count != 1)}", style="bold")
    if found.groups:
        console.print(_groups(found.groups))
        _print_members(console, found.groups)
    if found.rescalings:
        console.print("\nRescaling symmetries: members trade scale, so no prediction", style="bold")
        console.print(_rescalings(found.rescalings))
    if found.uncovered:
        console.print("\nNot in a group", style="bold")
        console.print(_reasons(found.uncovered))
    for label, lines in (("warning", found.warnings), ("note", found.notes)):
        for line in lines:
            console.print(f"\n{label}: {line}", markup=False)
    console.print(_summary(found, seconds), markup=False)


def extent(group: InvariantGroup) -> str:
    """What the cells of a group are: how many, and how large a part each takes.

    >>> from spherical_motion.vocabulary import Slice
    >>> rows = [Slice("w", 0, i, i + 1) for i in range(8)]
    >>> extent(InvariantGroup("w", "scale", (Slice("w", 0, 0, 8),), tuple((r,) for r in rows), 24))
    '8 rows'
    >>> extent(InvariantGroup("w", "scale", (Slice("w", 0, 0, 8),), ((Slice("w", 0, 0, 8),),), 24))
    'whole'
    """
    count = len(group.cells)
    if count == 0:
        return ""
    first = group.cells[0]
    lead = first[0]
    together = " jointly" if len(first) > 1 else ""
    if count == 1:
        entire = set(first) == set(group.slices)
        return (together.strip() or "whole") if entire else f"1 part{together}"
    kind = "columns" if lead.axis else "rows"
    part = kind if lead.length == 1 else f"blocks of {lead.length} {kind}"
    return f"{count:,} {part}{together}"


def members(group: InvariantGroup) -> str:
    """The parameters of a group, without the module they share; a number where they are many."""
    names = group.parameters
    if len(names) > SPELLED_OUT:
        return f"{len(names)} parameters"
    modules = {name.rpartition(".")[0] for name in names}
    if len(modules) == 1:
        return ", ".join(name.rpartition(".")[2] for name in names)
    return ", ".join(names)


def _plain_table(*columns: str, **kwargs: Any) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), **kwargs)
    for name in columns:
        right = name in ("entries", "defect ± error")
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return table


def _groups(groups: Sequence[InvariantGroup]) -> Table:
    table = _plain_table("group", "members", "kind", "granularity", "entries", "defect ± error")
    for group in groups:
        table.add_row(
            Text(group.name),
            Text(members(group)),
            group.kind,
            extent(group),
            f"{group.numel:,}",
            _defect(group),
        )
    return table


def _print_members(console: Console, groups: Sequence[InvariantGroup]) -> None:
    for group in groups:
        if len(group.parameters) > SPELLED_OUT:
            console.print(Text(f"\nMembers of {group.name}:"))
            console.print(Padding(Text(", ".join(group.parameters)), (0, 0, 0, 2)))


def _rescalings(groups: Sequence[InvariantGroup]) -> Table:
    table = _plain_table("group", "powers", "granularity", "entries", "defect ± error")
    for group in groups:
        table.add_row(
            Text(group.name),
            Text(_powers(group)),
            extent(group),
            f"{group.numel:,}",
            _defect(group),
        )
    return table


def _powers(group: InvariantGroup) -> str:
    """Each member with its power, those of many members only counted."""
    by_power: dict[float, list[str]] = {}
    for part, power in zip(group.slices, group.powers, strict=True):
        by_power.setdefault(power, []).append(part.parameter)
    sides = []
    for power, parts in by_power.items():
        names = list(dict.fromkeys(parts))
        named = ", ".join(names) if len(names) <= SPELLED_OUT else f"{len(names)} parameters"
        sides.append(f"{power:+g}: {named}")
    return "; ".join(sides)


def _reasons(uncovered: Sequence[Uncovered]) -> Table:
    """A row for each parameter; those of repeated modules with one reason share a row."""
    table = _plain_table("parameter", "reason", show_header=False)
    for names, reason in merged_reasons(uncovered):
        more = f"\nand {len(names) - 1} alike" if len(names) > 1 else ""
        table.add_row(Text(names[0] + more), Text(reason))
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
    """Every time the model ran: passes, what came besides, and how many passes were repairs."""
    besides = [
        _counted(count, what)
        for count, what in ((found.forwards, "forward"), (found.backwards, "backward"))
        if count
    ]
    cost = _counted(found.passes, "forward and backward pass")
    if besides:
        cost += f", {' and '.join(besides)} besides"
    if found.repairs:
        some = "a repair" if found.repairs == 1 else "repairs"
        cost += f", {found.repairs} of the passes {some}"
    return cost


def _counted(count: int, what: str) -> str:
    ending = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count} {what}{ending}"
