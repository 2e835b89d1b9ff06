"""The tables of the page that count cases: by suspect, by pair, and of healthy runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verdicts.judging import CLEAR
from verdicts.nets import TASKS
from verdicts.plan import FAULTS
from verdicts.scoring import Case, Results, cases

__all__ = ["confusion", "healthy_tables", "pairs"]

COLUMNS: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("right", lambda case: case.right),
    ("other or false alarm", lambda case: case.result in ("other alarm", "false alarm")),
    ("finding, no alarm", lambda case: case.result == "finding"),
    ("all well", lambda case: case.result in CLEAR),
    ("nothing said", lambda case: case.result in ("no alarm", "no row")),
)


def confusion(after: Results, before: Results) -> str:
    """Cases by expected suspect and by what is said, before → after."""
    head = "| expected | cases | " + " | ".join(name for name, _ in COLUMNS) + " | said instead |"
    rows = [head, "|---|---:" + "|---:" * len(COLUMNS) + "|---|"]
    now, then = list(cases(after)), list(cases(before))
    for expected in dict.fromkeys(map(expectation, FAULTS.values())):
        mine = [case for case in now if expectation(case.fault) == expected]
        old = [case for case in then if expectation(case.fault) == expected]
        if mine:
            rows.append(line(expected, mine, old))
    alarms = [case for case in now if case.fault.alarm]
    if alarms:
        rows.append(line("**all alarms**", alarms, [c for c in then if c.fault.alarm]))
    return "\n".join(rows) + "\n\nCases before → after.\n"


def expectation(fault: Any) -> str:
    first = fault.suspects[0] if fault.suspects and fault.suspects[0] else "nothing"
    first = "any alarm" if first == "ANY" else first
    return first if fault.alarm else f"{first} (no alarm)"


def line(title: str, mine: list[Case], old: list[Case]) -> str:
    cells = [f"{sum(map(is_so, old))} → {sum(map(is_so, mine))}" for _, is_so in COLUMNS]
    wrong: dict[str, int] = {}
    for case in mine:
        if not case.right:
            said = case.suspect or case.kind or "no row"
            wrong[said] = wrong.get(said, 0) + 1
    common = sorted(wrong.items(), key=lambda item: -item[1])[:4]
    instead = ", ".join(f"{said} {count}" for said, count in common)
    return f"| {title} | {len(mine)} | " + " | ".join(cells) + f" | {instead} |"


def pairs(after: Results) -> str:
    """Right cases of each fault on each net, with its optimizers."""
    rows = ["| fault | " + " | ".join(TASKS) + " |", "|---" * (len(TASKS) + 1) + "|"]
    found = list(cases(after))
    for name in FAULTS:
        mine = [case for case in found if case.fault.name == name]
        if not mine:
            continue
        cells = []
        for net in TASKS:
            here = [case for case in mine if case.net == net]
            parts = []
            for optimizer in dict.fromkeys(case.optimizer for case in here):
                of = [case for case in here if case.optimizer == optimizer]
                parts.append(f"{optimizer} {sum(case.right for case in of)}/{len(of)}")
            cells.append(", ".join(parts) or "–")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def healthy_tables(after: Results, before: Results) -> str:
    """Alarms of judged group-stages, by optimizer, by schedule and by variant; each false one."""
    parts = []
    now, then = healthy(after), {run["key"]: run for run in healthy(before)}
    for title, field in (("optimizer", "optimizer"), ("schedule", "schedule"), ("loop", "variant")):
        rows = [f"| {title} | runs | group-stages | alarms before | alarms after |"]
        rows.append("|---|---:|---:|---:|---:|")
        for value in [*dict.fromkeys(run[field] for run in now), None]:
            mine = [run for run in now if value is None or run[field] == value]
            old = [then[run["key"]] for run in mine if run["key"] in then]
            name = "all" if value is None else value or "as it is"
            rows.append(
                f"| {name} | {len(mine)} | {sum(run['judged'] for run in mine)} | "
                f"{sum(run['alarms'] for run in old)} | {sum(run['alarms'] for run in mine)} |"
            )
        parts.append("\n".join(rows) + "\n")
    false = [false_alarm(run, row) for run in now for row in run["wrong"]]
    audited = [
        f"- {run['key']}: {', '.join(f'`{g}` {s}' for g, s in run['audit_alarms'].items())}"
        for run in now
        if run["audit_alarms"]
    ]
    parts.append(
        "Alarms of the audit alone or beside:\n\n" + "\n".join(audited or ["None."]) + "\n"
    )
    parts.append("False alarms:\n\n" + "\n".join(false or ["None."]) + "\n")
    return "\n".join(parts)


def false_alarm(run: dict[str, Any], row: dict[str, Any]) -> str:
    names = (run[field] for field in ("net", "optimizer", "schedule", "variant"))
    said = f"{row['kind']}, {row['suspect'] or 'no suspect'}: {row['reason'][:300]}"
    return f"- {', '.join(name for name in names if name)}: `{row['group']}` {said}"


def healthy(results: Results) -> Results:
    return [run for run in results if not run["fault"] and "error" not in run]
