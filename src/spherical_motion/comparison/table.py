"""The comparison as an object: rows to iterate, sentences to read, curves to draw."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from spherical_motion.checks import number
from spherical_motion.comparison.columns import known_columns
from spherical_motion.comparison.curves import Curves, curves_of
from spherical_motion.comparison.evidence import (
    BAND,
    Evidence,
    Measured,
    Predicted,
    Settled,
)
from spherical_motion.comparison.findings import Row, findings_of
from spherical_motion.comparison.force_curves import ForceCurves, forces_of
from spherical_motion.comparison.forces import NO_TUG
from spherical_motion.comparison.ladder import Rule, judge
from spherical_motion.comparison.ladder.ignoring import parse_ignored
from spherical_motion.comparison.motion import Motion
from spherical_motion.comparison.whole.nearby import NearbyMotions
from spherical_motion.comparison.whole.streaming import RunEvidence, evidence_of
from spherical_motion.comparison.words import common_span
from spherical_motion.errors import InvalidArgument
from spherical_motion.estimates import Estimate
from spherical_motion.records import Records, read
from spherical_motion.vocabulary import Stage, VerdictKind

Rules = Iterable[tuple[VerdictKind, Rule]]


class Comparison:
    """A recorded run beside the theory. Made by `compare`; prints as a table.

    Iterating gives the rows, group by group. `comparison["layer1.conv"]` is the row of that
    group's last stage, `comparison["layer1.conv", 1]` that of stage 1.
    """

    def __init__(
        self,
        records: Records,
        rules: Rules | None = None,
        *,
        ignore: Iterable[str] = (),
        band: float = BAND,
    ) -> None:
        self._rules = None if rules is None else tuple(rules)
        self.band = number("compare", "band", band, above=0.0, below=1.0)
        self._known = parse_ignored(ignore, records.groups)
        self.records = records
        self.directory: Path = records.directory
        self.groups: tuple[str, ...] = records.groups

    @functools.cached_property
    def rows(self) -> tuple[Row, ...]:
        """One row a group and stage, group by group."""
        rows = (
            _row(_spanned(evidence, self.span), number, self._rules)
            for number, evidence in self._evidence
        )
        return tuple(self._noted(row) for row in rows)

    def _noted(self, row: Row) -> Row:
        """The row, marked if it is an alarm that the user knows of."""
        known = row.alarm and any(entry.covers(row.group, row.verdict) for entry in self._known)
        return dataclasses.replace(row, acknowledged=True) if known else row

    @functools.cached_property
    def _run(self) -> RunEvidence:
        return evidence_of(self.records, self.band)

    @property
    def _evidence(self) -> tuple[tuple[int, Evidence], ...]:
        """(stage number, evidence), group by group."""
        return self._run.evidence

    @functools.cached_property
    def span(self) -> int:
        """For how many steps the words of all rows give rates: 1,000, or fewer if large."""
        return common_span(e.tug.forces for _, e in self._evidence if isinstance(e, Measured))

    def stages(self, group: str) -> tuple[Stage, ...]:
        """The stages of a group's run; empty if nothing was recorded of it."""
        self.records.index(group)
        return self._run.stages.get(group, ())

    def curves(self, group: str) -> Curves:
        """Measured and predicted angle and norm of a group at each sample, for drawing."""
        return curves_of(self._motion(group), self.stages(group))

    def forces(self, group: str) -> ForceCurves:
        """What pulled a group's norm in and pushed it out, window by window, for drawing."""
        return forces_of(self._motion(group), self.stages(group))

    def _motion(self, group: str) -> Motion | None:
        """The motion of a group; None if nothing was recorded of it."""
        index = self.records.index(group)
        return self._motions.of(index) if self.stages(group) else None

    @functools.cached_property
    def _motions(self) -> NearbyMotions:
        return NearbyMotions(self.records)

    @functools.cached_property
    def findings(self) -> tuple[str, ...]:
        """The rows summed up in sentences, the most important first."""
        if self.lost:
            return (f"Nothing can be judged, because data were lost: {self.lost}.",)
        return findings_of(self.rows, self.groups)

    @property
    def lost(self) -> str:
        """Which lost data leave nothing to judge, in words; "" if there are rows, or none were."""
        return "" if self.rows else self.records.lost("records", "settings")

    @property
    def alarms(self) -> tuple[Row, ...]:
        """Rows whose verdict asks for action and is not acknowledged."""
        return tuple(row for row in self.rows if row.alarm)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: str | tuple[str, int]) -> Row:
        group, number = key if isinstance(key, tuple) else (key, None)
        self.records.index(group)
        found = self._rows_of.get(group, [])
        for row in reversed(found):
            if number in (None, row.number):
                return row
        raise InvalidArgument(
            f"Comparison: group {group!r} has {len(found)} recorded stages, numbered from 1; "
            f"asked for {'the last' if number is None else number}."
        )

    @functools.cached_property
    def _rows_of(self) -> dict[str, list[Row]]:
        """The rows of each group that has any."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return found

    def __str__(self) -> str:
        if not self.rows:
            lost = f"nothing can be judged, because data were lost: {self.lost}"
            return f"{self.directory}: {lost if self.lost else 'no steps recorded yet'}."
        columns = known_columns(self.rows)
        table = [["group", "stage", *columns, "verdict"]]
        for row in self.rows:
            numbers = (column.text(row) for column in columns.values())
            said = f"{row.called}: {row.verdict.reason}"
            table.append([row.group, str(row.number), *numbers, said])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for first, *numbers, verdict in table:
            cells = (f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=False))
            lines.append("  ".join([f"{first:<{widths[0]}}", *cells, verdict]))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Comparison of {self.directory}: {len(self.groups)} groups, {len(self)} rows>"


def compare(
    run: str | os.PathLike[str] | Records,
    *,
    rules: Rules | None = None,
    ignore: Iterable[str] = (),
    band: float = BAND,
) -> Comparison:
    """Compare a recorded run with the theory.

    Args:
        run: a run directory, or `Records` already read.
        rules: kinds and rules in the order to try them; `comparison.RULES` if left out.
        ignore: alarms that you know of, "NAME" or "NAME:SUSPECT" each, where NAME is a group and
            may hold * and ?: `["layer1.*:WEIGHTS_WRITTEN"]`. They are shown as acknowledged.
        band: a group is in equilibrium if the 95% interval of measured over predicted angle lies
            within 1 ± this, and all laws hold.

    Returns:
        A `Comparison`: print it, iterate its rows, or hand it to `report`.

    Raises:
        NotARun: the directory holds no run.
        InvalidArgument: `ignore` names no group or suspect of this run, or `band` is not between 0
            and 1.
    """
    records = run if isinstance(run, Records) else read(run)
    return Comparison(records, rules, ignore=ignore, band=band)


def _spanned(evidence: Evidence, span: int) -> Evidence:
    if not isinstance(evidence, Measured):
        return evidence
    return dataclasses.replace(evidence, tug=dataclasses.replace(evidence.tug, span=span))


def _row(evidence: Evidence, number: int, rules: Rules | None) -> Row:
    ratio, transient, equilibrium, tug = Estimate(), math.nan, math.nan, NO_TUG
    if evidence.samples and not evidence.moved:
        why = "the learning rate is 0" if evidence.lr_is_zero else "no sampled step moved it"
        tug = dataclasses.replace(NO_TUG, unknown=why)
    if isinstance(evidence, Measured):
        tug = evidence.tug
        if evidence.group.kind == "plain":
            ratio, transient = tug.balance, evidence.measured / tug.balance.value
    if isinstance(evidence, Predicted):
        ratio, transient = evidence.ratio, evidence.transient
        equilibrium = evidence.rest.equilibrium if evidence.rest else math.nan
    verdict = judge(evidence, rules)
    if verdict.kind is VerdictKind.NO_PREDICTION:
        ratio, transient = Estimate(), math.nan
    return Row(
        group=evidence.group.name,
        number=number,
        stage=evidence.stage,
        measured=evidence.measured if isinstance(evidence, Measured) else math.nan,
        predicted=equilibrium if isinstance(evidence, Settled) else transient,
        ratio=ratio.value,
        interval=(ratio.low, ratio.high),
        equilibrium=equilibrium,
        samples=evidence.judged,
        verdict=verdict,
        tug=tug,
    )
