"""Results of runs → counts: of cases by what was said, of false alarms, of steps until found."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from verdicts.fault import Fault
from verdicts.optimizers import SGDS
from verdicts.plan import FAULTS, every_run

__all__ = ["Case", "Results", "cases", "due", "in_time", "kept_runs", "share"]

Results: TypeAlias = list[dict[str, Any]]

AUDITED = 20
"""Length of the first audited stretch of a run."""

NEXT_AUDIT = 1002
"""Where the audit after the first stretch has compared two neighbouring steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One group that a fault concerns, in one run.

    Attributes:
        fault, net, optimizer, group: which.
        result: "right", "other alarm", "false alarm", "finding", "quiet", "no alarm", "no row", or
            the verdict that tells that all is well.
        clear: whether a verdict tells that all is well.
        kind, suspect, since, reason: what is said.
    """

    fault: Fault
    net: str
    optimizer: str
    group: str
    result: str
    clear: bool
    kind: str
    suspect: str
    since: int | None
    reason: str

    @property
    def right(self) -> bool:
        """Whether the fault is named; where none is to be, whether there is no alarm."""
        return self.result == "right" or (not self.fault.alarm and self.result == "quiet")


def kept_runs(folder: Path) -> Results:
    """The results in a folder, in the order of the table."""
    read = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    return [read[run.key] for run in every_run() if run.key in read]


def cases(results: Results) -> Iterator[Case]:
    """The cases of all runs with a fault."""
    for run in results:
        if run["fault"] and "error" not in run:
            for group, case in run["cases"].items():
                names = ("result", "kind", "suspect", "since", "reason")
                said = {name: case[name] for name in names}
                clear = bool(case.get("clear"))
                where = run["net"], run["optimizer"], group
                yield Case(FAULTS[run["fault"]], *where, clear=clear, **said)


def due(case: Case) -> int:
    """The last step at which a fault of the step rule may be seen first."""
    if case.fault.begins < AUDITED:
        return case.fault.begins + 3
    if case.optimizer in SGDS:
        return case.fault.begins + 2
    return NEXT_AUDIT


def in_time(case: Case) -> bool:
    """Whether the verdict says a first step, and says it in time."""
    return case.since is not None and case.since <= due(case)


def share(found: Iterable[Case], what: Callable[[Case], bool]) -> tuple[int, int]:
    """How many of the cases are so, and of how many."""
    listed = list(found)
    return sum(map(what, listed)), len(listed)


def most_common(values: Iterable[str]) -> str:
    """The value that occurs most often; "" of none."""
    counts = collections.Counter(value for value in values if value)
    return counts.most_common(1)[0][0] if counts else ""
