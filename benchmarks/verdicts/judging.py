"""What the library says of a recorded run, as JSON, held against what is known of the run."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import spherical_motion as smd
from spherical_motion.comparison import Row
from verdicts.fault import Fault
from verdicts.loop import INVARIANT

__all__ = ["CLEAR", "judged", "said_of"]

OLD_NAMES = {
    "NORM_EPSILON": "EPSILON",
    "FOREIGN_WRITES": "WEIGHTS_WRITTEN",
    "LARGE_GRADIENTS": "HEAVY_TAILS",
    "CHANGING_GRADIENT": "GRADIENT_SCALE",
    "INVARIANCE_LOST": "EVAL_MODE",
}
"""Suspects as they were called before; the run may be judged by an earlier version."""

CLEAR = ("in equilibrium", "in balance")
"""Verdicts that tell a user that all is well."""

NOT_JUDGED = ("too few samples",)


def said_of(directory: Path) -> dict[str, Any]:
    """Verdicts and audit of a run."""
    start = time.perf_counter()
    comparison = smd.compare(directory)
    rows = [row_facts(row) for row in comparison]
    seconds = time.perf_counter() - start
    parameters = {g.name: list(g.parameters) for g in comparison.records.info.groups}
    certified = [g.name for g in comparison.records.info.groups if g.kind != "plain"]
    make_audit = getattr(smd, "audit", None)
    audit = make_audit(directory) if make_audit else ()
    return {
        "rows": rows,
        "groups": parameters,
        "certified": certified,
        "compare_seconds": round(seconds, 2),
        "audit": str(audit).replace(str(directory), "runs/mine") if make_audit else "",
        "audit_alarms": {
            row.group: [name_of(s) for s in row.suspects if s.alarm] for row in audit if row.alarm
        },
        "findings": list(comparison.findings),
    }


def row_facts(row: Row) -> dict[str, Any]:
    """A row as JSON can say it."""
    verdict = row.verdict
    return {
        "group": row.group,
        "stage": row.number,
        "start": row.stage.start,
        "stop": row.stage.stop,
        "kind": verdict.kind.value,
        "suspect": name_of(verdict.suspect),
        "suspects": [s for s in (name_of(r.kind.suspect) for r in verdict.reasons) if s],
        "alarm": bool(row.alarm),
        "reason": verdict.reason,
        "since": first_step(row),
        "evidence": {k: rounded(v) for k, v in verdict.evidence.items()},
    }


def name_of(suspect: object) -> str:
    """Name of a suspect, as it is called now."""
    name = getattr(suspect, "name", "") if suspect is not None else ""
    return OLD_NAMES.get(name, name)


FIRST = ("since", "first", "onset", "first_step")


def first_step(row: Row) -> int | None:
    """The step at which a verdict says that its cause was first seen, if it says."""
    evidence = dict(row.verdict.evidence)
    for reason in row.verdict.reasons:
        evidence = {**evidence, **{k: v for k, v in reason.numbers.items() if k in FIRST}}
    for name in FIRST:
        value = evidence.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            return int(value)
    return None


def rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def judged(said: dict[str, Any], affected: list[str] | None, fault: Fault | None) -> dict[str, Any]:
    """Hold the rows of a run against what is known of it.

    A case is a group that the fault concerns. It is right if one of its stages after the fault's
    beginning is an alarm with a suspect that is expected; for a fault without alarm, if none is an
    alarm.
    """
    rows = [row for row in said["rows"] if row["kind"] not in NOT_JUDGED]
    if fault is None:
        false = [short(row) for row in rows if row["alarm"]]
        audited = said.get("audit_alarms", {})
        facts = {"groups": len(said["groups"]), "audit_alarms": audited}
        return {"judged": len(rows), "alarms": len(false), "wrong": false, **facts}
    concerned = affected_groups(said, affected)
    cases = {name: case(late_rows(said["rows"], name, fault), fault) for name in concerned}
    spilt = [short(r) for r in rows if r["alarm"] and r["group"] not in concerned]
    early = [short(r) for r in rows if r["alarm"] and r["stop"] <= fault.begins]
    others = len(said["groups"]) - len(concerned)
    return {"cases": cases, "others": others, "spilt": spilt, "early": early}


def late_rows(rows: list[dict[str, Any]], group: str, fault: Fault) -> list[dict[str, Any]]:
    """The rows of a group from the fault's beginning on; the last if its record ends there."""
    mine = [row for row in rows if row["group"] == group]
    return [row for row in mine if row["stop"] > fault.begins + 2] or mine[-1:]


def affected_groups(said: dict[str, Any], affected: list[str] | None) -> list[str]:
    """Names of the groups that hold an affected parameter."""
    if affected is None:
        return list(said["groups"])
    if affected == [INVARIANT]:
        return list(said["certified"])
    return [name for name, held in said["groups"].items() if set(held) & set(affected)]


def case(rows: list[dict[str, Any]], fault: Fault) -> dict[str, Any]:
    """What is said of one group after the fault began: of its clearest row."""
    if not rows:
        return {"result": "no row", "kind": "", "suspect": "", "since": None, "reason": ""}
    right = [row for row in rows if matches(row, fault)]
    alarms = [row for row in rows if row["alarm"]]
    if fault.alarm:
        row = (right or alarms or rows)[0] if (right or alarms) else rows[-1]
        result = "right" if right else "other alarm" if alarms else outcome(row)
    else:
        row = (alarms or right or rows)[0] if (alarms or right) else rows[-1]
        result = "false alarm" if alarms else "right" if right else "quiet"
    found = {name: row[name] for name in ("kind", "suspect", "since", "reason")}
    clear = any(r["kind"] in CLEAR and not r["suspect"] and not r["alarm"] for r in rows)
    return {"result": result, "clear": clear, **found}


def matches(row: dict[str, Any], fault: Fault) -> bool:
    """Whether a row names the fault."""
    named = row["suspect"] in fault.suspects or fault.suspects == ("ANY",)
    return row["alarm"] == fault.alarm and named


def outcome(row: dict[str, Any]) -> str:
    """What a row without alarm tells a user about a fault that should be one."""
    if row["kind"] in CLEAR and not row["suspect"]:
        return row["kind"]
    return "finding" if row["suspect"] else "no alarm"


def short(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("group", "stage", "kind", "suspect", "since", "reason")
    return {name: row[name] for name in kept}
