"""The goals, and whether they are met."""

from __future__ import annotations

from verdicts.healthy import REAL_EPSILON
from verdicts.scoring import Results, cases, due, in_time, share

__all__ = ["goals"]


def goals(after: Results, before: Results) -> str:
    """One row a goal."""
    rows = ["| goal | asked | before | after | met |", "|---|---|---|---|---|"]
    for words, asked, measure, met in GOALS:
        then, now = measure(before), measure(after)
        verdict = "yes" if met(now) else "**no**"
        rows.append(f"| {words} | {asked} | {shown(then)} | {shown(now)} | {verdict} |")
    return "\n".join(rows) + "\n"


Counts = tuple[int, int]


def shown(counts: Counts) -> str:
    part, whole = counts
    return f"{part}/{whole} ({part / whole:.1%})" if whole else "not measured"


def named(results: Results) -> Counts:
    """Cases that are an alarm with the right suspect, of faults that change weights or settings."""
    found = [case for case in cases(results) if case.fault.changes and case.fault.alarm]
    return share(found, lambda case: case.right)


def named_of_all(results: Results) -> Counts:
    found = [case for case in cases(results) if case.fault.alarm]
    return share(found, lambda case: case.right)


def alarmed(results: Results) -> Counts:
    found = [case for case in cases(results) if case.fault.alarm]
    return share(found, lambda case: case.result in ("right", "other alarm"))


def called_well(results: Results) -> Counts:
    """Cases of a fault that asks for action whose verdict is that all is well."""
    found = [case for case in cases(results) if case.fault.alarm]
    return share(found, lambda case: case.clear)


def plain_healthy(results: Results) -> Results:
    """Healthy runs, without those whose ε is large enough to be a true alarm."""
    healthy = [run for run in results if not run["fault"] and "error" not in run]
    return [run for run in healthy if run["variant"] != REAL_EPSILON]


def false_alarms(results: Results) -> Counts:
    healthy = plain_healthy(results)
    return sum(run["alarms"] for run in healthy), sum(run["judged"] for run in healthy)


def audit_alarms(results: Results) -> Counts:
    """Groups of healthy runs in whose audited steps the audit finds what asks for action."""
    healthy = plain_healthy(results)
    return sum(len(run["audit_alarms"]) for run in healthy), sum(run["groups"] for run in healthy)


def harmless_alarms(results: Results) -> Counts:
    found = [case for case in cases(results) if not case.fault.alarm]
    return share(found, lambda case: not case.right)


def spilt(results: Results) -> Counts:
    """Runs with a fault of some groups in which another group alarms."""
    partial = [run for run in results if run["fault"] and "error" not in run and run["others"] > 0]
    return sum(bool(run["spilt"]) for run in partial), len(partial)


def found_in_time(results: Results) -> Counts:
    """Right cases of faults of the step rule whose first step is named in time."""
    found = [c for c in cases(results) if c.fault.kind in ("settings", "step") and c.right]
    return share([c for c in found if c.fault.schedule == "constant" and due(c)], in_time)


GOALS = (
    ("faults that change weights or settings are alarms with the right suspect", "≥ 95% of cases",
     named, lambda c: c[1] > 0 and c[0] >= 0.95 * c[1]),
    ("the same, of all faults that ask for action", "", named_of_all,
     lambda c: c[1] > 0 and c[0] >= 0.95 * c[1]),
    ("faults that ask for action are an alarm of any kind", "", alarmed,
     lambda c: c[1] > 0 and c[0] >= 0.95 * c[1]),
    ("faults that ask for action are called in equilibrium or in balance", "none", called_well,
     lambda c: c[1] > 0 and c[0] == 0),
    ("healthy group-stages that alarm", "≤ 1%", false_alarms,
     lambda c: c[1] > 0 and c[0] <= 0.01 * c[1]),
    ("groups of healthy runs that the audit alarms", "none", audit_alarms,
     lambda c: c[1] > 0 and c[0] == 0),
    ("cases of what is no fault to act on that alarm", "none", harmless_alarms,
     lambda c: c[1] > 0 and c[0] == 0),
    ("runs in which a group that the fault does not concern alarms", "none", spilt,
     lambda c: c[1] > 0 and c[0] == 0),
    ("faults of the step rule whose first step is named in time", "all", found_in_time,
     lambda c: c[1] > 0 and c[0] == c[1]),
)  # fmt: skip
"""Words, what is asked, how it is measured, whether it is met."""
