"""What is missed, listed from the results, and why, as far as is known."""

from __future__ import annotations

from verdicts.plan import FAULTS
from verdicts.scoring import Results, cases

__all__ = ["WHY", "notes"]

WHY: dict[str, str] = {}
"""Fault → why some of its cases are missed."""

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
    return "\n".join(parts) or "Nothing is missed.\n"
