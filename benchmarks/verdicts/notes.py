"""What is missed, listed from the results, and why, as far as is known."""

from __future__ import annotations

from verdicts.plan import FAULTS
from verdicts.scoring import Results, cases, in_time

__all__ = ["HEALTHY", "WHY", "notes"]

WHY: dict[str, str] = {
    "decay in the loss": (
        "A hidden decay is told by a radial gradient that is the same share of the weights at each "
        "step. Of a matrix without a certificate <w, g> is not 0 by right: its loss may pull "
        "inward, and no law tells that from a decay. Where most certified groups of its optimizer "
        "hide one, a clause says so beside its verdict; that is no alarm."
    ),
    "decay in the loss for one layer": (
        "The same limit: without a certificate nothing says which part of the radial gradient is "
        "the loss's, and with one group only there are no others to compare it with."
    ),
    "gradient never cleared": (
        "A sum of all gradients so far is a momentum of 1 in the loop. Where a group is certified "
        "the radial law shows it. Of a matrix without a certificate <w, g> is not 0 by right, and "
        "no law says what its gradient should be."
    ),
}
"""Fault → why some of its cases are missed."""

SPILT = {
    "ε 10 in one norm": (
        "The norm layer with ε 10 lets so little through that ε counts in the next one, too: "
        "the audit measured it there. The alarm is true, the fault is one layer above."
    ),
}
"""Fault → why groups alarm that it does not concern."""

HEALTHY = {
    "rare branch": (
        "A layer that is used by one batch in 25 and whose last use lies 20 steps back when the "
        "stage ends looks like one that has lost its gradient."
    ),
    "two rates, one plan": (
        "The plan is one schedule. Rates of another param group are compared with it unless the "
        "ratio is constant and known to be meant."
    ),
    "clipped at first": (
        "In a short first stage the only audited steps are the first 20, and these are clipped."
    ),
}
"""Variant of a healthy loop → why it alarms."""

LONGEST = 220


def notes(after: Results) -> str:
    """Each fault with misses: the reason, and what is said instead, each kind of miss once."""
    parts = []
    found = list(cases(after))
    for name in FAULTS:
        missed = [case for case in found if case.fault.name == name and not case.right]
        if not missed:
            continue
        lines = [f"**{name}.** {WHY.get(name, '')}".rstrip()]
        by_words: dict[tuple[str, str], list[str]] = {}
        for case in missed:
            where = f"{case.net} {case.optimizer} `{case.group}`"
            by_words.setdefault((case.kind, case.suspect), []).append(where)
        for (kind, suspect), where in by_words.items():
            example = next(c for c in missed if (c.kind, c.suspect) == (kind, suspect))
            said = f"{kind or 'no row'}{', ' + suspect if suspect else ''}"
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            reason = example.reason[:LONGEST]
            lines.append(f"- {said} ({where[0]}{more}): {reason or 'no reason given'}")
        parts.append("\n".join(lines) + "\n")
    loud = {run["variant"] for run in after if not run["fault"] and run.get("alarms")}
    for variant, why in HEALTHY.items():
        if variant in loud:
            parts.append(f"**Healthy, {variant}.** {why}\n")
    parts += late(after)
    for run in after:
        if run.get("spilt"):
            names = ", ".join(f"`{row['group']}` {row['suspect']}" for row in run["spilt"])
            where = f"{run['fault']} ({run['net']}, {run['optimizer']})"
            parts.append(f"**Beside the fault, {where}:** {names}. {SPILT.get(run['fault'], '')}\n")
    return "\n".join(parts) or "Nothing is missed.\n"


def late(after: Results) -> list[str]:
    """Faults of the step rule that are named, with a first step that comes late."""
    found = [c for c in cases(after) if c.fault.kind in ("settings", "step") and c.right]
    slow = [c for c in found if c.fault.schedule == "constant" and not in_time(c)]
    where = dict.fromkeys((c.fault.name, c.net, c.optimizer, c.since) for c in slow)
    return [
        f"**Seen late, {name} ({net}, {optimizer}):** first step named is {since}; the step law "
        "has the beginning, but the reason given is that of the replayed steps.\n"
        for name, net, optimizer, since in where
    ]
