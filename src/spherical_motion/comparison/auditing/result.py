"""The audit of a run: what was found of each group, in words, and which of it asks for action."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spherical_motion.comparison.auditing.words import (
    Finding,
    around_findings,
    event_findings,
    plan_findings,
    step_findings,
)
from spherical_motion.comparison.laws.audited import AuditedSteps, audited_steps
from spherical_motion.comparison.laws.audited_run import AuditedRun
from spherical_motion.comparison.laws.limits import entries_clipped
from spherical_motion.comparison.laws.planned import Planned, PlannedRun
from spherical_motion.notices import listed
from spherical_motion.records import Records, read
from spherical_motion.records.files.events import Event
from spherical_motion.vocabulary import EventKind, InvariantGroup, Suspect

UNAUDITED = (
    "no step was audited. Audits are made unless audit=False is passed to watch or Monitor, from "
    "the first step on"
)


@dataclasses.dataclass(frozen=True, slots=True)
class AuditRow:
    """The audit of one group.

    Attributes:
        group: its name.
        audited: its audited steps.
        planned: its rates beside the run's plan; None without a plan.
        findings: what was found, the most serious first; empty if all is as it should be.
    """

    group: str
    audited: AuditedSteps
    planned: Planned | None
    findings: tuple[Finding, ...]

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """The causes that the findings name."""
        return tuple(dict.fromkeys(f.suspect for f in self.findings if f.suspect is not None))

    @property
    def alarm(self) -> bool:
        """Whether a finding asks for action."""
        return any(finding.alarm for finding in self.findings)

    def __str__(self) -> str:
        found = self.audited
        if found.replayed:
            good = found.replayed - len(found.differing)
            words = f"{good} of {found.replayed} replayed steps are the rule's"
        elif found.steps:
            words = f"{found.steps} steps looked at, none replayed ({found.skipped or 'unknown'})"
        else:
            words = "not audited"
        shown = (
            [f"ε is {found.epsilon:.2g} of ε + variance"] if found.epsilon == found.epsilon else []
        )
        if found.fit is not None and not found.fit.kind:
            shown.append(f"missed by {found.miss:.2g} of their length, cosine {found.cosine:.4f}")
        if entries_clipped(found):
            shown.append(f"{found.peak:.1%} of entries at the largest size")
        shown += [f"{found.lost:.1%} lost to rounding"] if found.lost >= 5e-4 else []
        shown += [suspect.value for suspect in self.suspects if suspect.alarm]
        return f"{self.group}: {', '.join([words, *dict.fromkeys(shown)])}"


class Audit:
    """The audit of a run: one row a group. Print it, iterate its rows, or take `to_dict`.

    Attributes:
        records: the run.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._run = AuditedRun(records)
        self._shared: dict[tuple[object, ...], AuditedSteps] = {}

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.records.directory

    @functools.cached_property
    def rows(self) -> tuple[AuditRow, ...]:
        """One row a group, in the order of the run."""
        plans = PlannedRun(self.records)
        return tuple(
            self._row(group, plans, block)
            for block in self.records.blocks()
            for group in block.groups
        )

    @property
    def alarm(self) -> bool:
        """Whether anything found asks for action."""
        return any(row.alarm for row in self.rows)

    @functools.cached_property
    def lost(self) -> str:
        """Which lost data leave no audited step, in words; "" if there is one, or none were."""
        if len(self.records.audits.step):
            return ""
        return self.records.lost("audit", "audit_steps")

    @functools.cached_property
    def findings(self) -> tuple[str, ...]:
        """What was found, each once with the groups that it is about, the most serious first."""
        groups: dict[Finding, list[str]] = {}
        for row in self.rows:
            for finding in row.findings:
                groups.setdefault(finding, []).append(row.group)
        found = sorted(groups, key=lambda finding: not finding.alarm)
        everyone = len(self.rows)
        return tuple(
            f"{'all groups' if len(groups[f]) == everyone > 1 else listed(groups[f])}: {f.words}"
            for f in found
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything in it, ready for JSON but for NaN."""
        return {
            "directory": str(self.directory),
            "alarm": self.alarm,
            "lost": self.lost,
            "findings": list(self.findings),
            "groups": [
                {
                    "group": row.group,
                    "alarm": row.alarm,
                    "suspects": [suspect.value for suspect in row.suspects],
                    "findings": [finding.words for finding in row.findings],
                    "audited": dataclasses.asdict(row.audited),
                    "planned": None if row.planned is None else dataclasses.asdict(row.planned),
                }
                for row in self.rows
            ],
        }

    def __iter__(self) -> Iterator[AuditRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, group: str) -> AuditRow:
        return self.rows[self.records.index(group)]

    def __str__(self) -> str:
        steps = self.records.audits.step
        if not len(steps):
            lost = f"the audited steps were lost: {self.lost}"
            head = f"{self.directory}: {lost if self.lost else UNAUDITED}."
        else:
            count = len(set(steps.tolist()))
            head = (
                f"{self.directory}: {count} audited steps between {steps.min():,} and "
                f"{steps.max():,}"
            )
        lines = [head, *(f"  {row}" for row in self.rows)] if len(steps) else [head]
        found = [f"  • {finding}." for finding in self.findings]
        if len(steps) or found:
            lines += ["What this says", *(found or [f"  • {self._all_is_well()}."])]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Audit of {self.directory}: {len(self)} groups>"

    def _all_is_well(self) -> str:
        planned = any(row.planned is not None for row in self.rows)
        return "every replayed step is the rule's" + (", at the planned rates" if planned else "")

    def _audited(self, group: str, block: Records) -> AuditedSteps:
        """The audited steps of a group; groups of the same parameters share them.

        A fit of steps that differ asks for the settings of the group.
        """
        info = block.info
        main = block.main_slices[block.index(group)]
        own = info.groups[block.index(group)].parameters
        key = own, info.slices[main].parameter, info.slice_param_group[main]
        if key not in self._shared:
            self._shared[key] = audited_steps(self._run, group, within=block)
        elif self._shared[key].differing:
            return audited_steps(self._run, group, within=block)
        return self._shared[key]

    @functools.cached_property
    def _events(self) -> Mapping[str, Sequence[Event]]:
        """The events about each tensor."""
        found: dict[str, list[Event]] = {}
        kinds = (EventKind.NOT_STEPPED, EventKind.SECOND_OPTIMIZER)
        for event in (event for event in self.records.events if event["kind"] in kinds):
            for tensor in event["parameters"]:
                found.setdefault(tensor, []).append(event)
        return found

    def _events_of(self, group: InvariantGroup) -> list[Event]:
        """The events about a group's tensors, each once, in order."""
        about = {id(e): e for tensor in group.parameters for e in self._events.get(tensor, ())}
        if len(group.parameters) < 2:
            return list(about.values())
        return [event for event in self.records.events if id(event) in about]

    def _row(self, group: str, plans: PlannedRun, block: Records) -> AuditRow:
        found = self._audited(group, block)
        mine = plans.of(group, block)
        index = self.records.index(group)
        own = self.records.info.groups[index]
        findings = [
            *event_findings(self._events_of(own)),
            *step_findings(found, self.records.info.dtype_of(index)),
            *around_findings(found, plain=own.kind == "plain"),
            *(plan_findings(mine, meant=plans.meant(mine)) if mine is not None else ()),
        ]
        findings.sort(key=lambda finding: not finding.alarm)
        return AuditRow(group, found, mine, tuple(findings))


def audit(run: str | os.PathLike[str] | Records) -> Audit:
    """What the audit of a run found: single steps replayed by the optimizer's own rule.

    While a run is recorded, the first 20 steps, 3 after each change of settings, and pairs at steps
    50, 100, 200, 500 and every 1,000 are replayed in float64 and compared with the real ones.

    Args:
        run: a run directory, or `Records` already read.

    Returns:
        An `Audit`: print it, iterate its rows, or ask it for `.alarm`.

    Raises:
        NotARun: the directory holds no run.
    """
    return Audit(run if isinstance(run, Records) else read(run))
