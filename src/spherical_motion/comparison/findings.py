"""The rows of a comparison, one a group and stage, and the few sentences that sum them up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from spherical_motion.comparison.forces import NO_TUG, TugOfWar
from spherical_motion.comparison.ladder.reasons import (
    AngleReason,
    BalanceReason,
    BesideReason,
    RadialReason,
    SampleReason,
    TransientReason,
)
from spherical_motion.comparison.words import words_of
from spherical_motion.notices import listed
from spherical_motion.vocabulary import Stage, Tone, Verdict, VerdictKind

GROUPS_NAMED = 3
"""Only this many groups are named; the rest is counted."""


CANCELLED_SHARE = 0.5
"""From this share on it is said how much of weight decay the loss cancels."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One group in one stage. Angles are RMS over the judged samples, in radians.

    Attributes:
        group: name of the group.
        number: stage number, from 1.
        stage: its steps and settings.
        measured: the angle found.
        predicted: the angle expected of the same samples: that of the transient, and Δ* once the
            transient has died out.
        ratio: measured / predicted.
        interval: 95% interval of the ratio, from batch means.
        equilibrium: Δ*.
        samples: how many samples were judged.
        verdict: the conclusion and its reason.
        tug: the balance law of this group and stage, with all its numbers.
        acknowledged: whether the caller of `compare` knows of it (`ignore=`): it is no alarm then.

    `balance` is over all judged steps of the stage. `pull`, `decay_share`, `growth` and `words`
    describe now: the last quarter of them, but at least 50 steps and 10/(1 - α); `tug.window` says
    how many steps that is. In a group of kind "plain" the balance law predicts: `ratio` is
    `balance`, and `predicted` the measured angle divided by it.
    """

    group: str
    number: int
    stage: Stage
    measured: float
    predicted: float
    ratio: float
    interval: tuple[float, float]
    equilibrium: float
    samples: int
    verdict: Verdict
    tug: TugOfWar = NO_TUG
    acknowledged: bool = False

    @property
    def balance(self) -> float:
        """Measured over predicted turning by the balance law; 1 where it holds, at rest or not."""
        return self.tug.balance.value

    @property
    def balance_interval(self) -> tuple[float, float]:
        """95% interval of `balance`."""
        return self.tug.balance.low, self.tug.balance.high

    @property
    def balance_unknown(self) -> str:
        """Why `balance` is NaN; empty if it is known."""
        return self.tug.unknown

    @property
    def pull(self) -> float:
        """How strongly decay and loss draw the weights inward, in units of the weight decay."""
        return self.tug.pull.value

    @property
    def pull_interval(self) -> tuple[float, float]:
        """95% interval of `pull`."""
        return self.tug.pull.low, self.tug.pull.high

    @property
    def decay_share(self) -> float:
        """Weight decay over `pull`; above 1 where the loss works against the decay."""
        return self.tug.decay_share.value

    @property
    def decay_share_interval(self) -> tuple[float, float]:
        """95% interval of `decay_share`; its end is infinite where that of `pull` reaches 0."""
        return self.tug.decay_share.low, self.tug.decay_share.high

    @property
    def growth(self) -> float:
        """Relative change of |w|² in a step: 2·ln(|w_end|/|w_start|) over the steps of now.

        `Records.growth()` has each step's own, (|w_after|² - |w|²)/|w|²; this is the mean of
        ln(1 + those), so that it tells what the norm did over all of them.
        """
        return self.tug.growth.value

    @property
    def growth_interval(self) -> tuple[float, float]:
        """95% interval of `growth`."""
        return self.tug.growth.low, self.tug.growth.high

    @property
    def words(self) -> str:
        """What pulls the norm in and what pushes it out, in a sentence or two."""
        return words_of(self.tug)

    @property
    def says_more(self) -> bool:
        """Whether `words` adds to the verdict's reason: what moves the norm is known and unsaid."""
        known = not math.isnan(self.tug.forces.inward)
        return known and not self.verdict.has_reason(BalanceReason.WORDS)

    @property
    def alarm(self) -> bool:
        """Whether the verdict asks for action, and nobody has acknowledged it."""
        return self.verdict.alarm and not self.acknowledged

    @property
    def tone(self) -> Tone:
        """How urgent it is: the verdict's tone, or a caution where the alarm is acknowledged."""
        return Tone.CAUTION if self.acknowledged else self.verdict.tone

    @property
    def called(self) -> str:
        """The verdict's name; of an alarm with its suspect, and whether it is acknowledged."""
        return f"{self.verdict.kind.value}{self.beside}"

    @property
    def beside(self) -> str:
        """What stands beside the verdict's name: the suspect of an alarm, "acknowledged"."""
        suspect = self.verdict.suspect if self.verdict.alarm else None
        named = suspect.value if suspect and suspect.value != self.verdict.kind.value else ""
        said = ", ".join(word for word in (named, "acknowledged" * self.acknowledged) if word)
        return f" ({said})" if said else ""


def findings_of(rows: Sequence[Row], groups: Sequence[str]) -> tuple[str, ...]:
    """Sentences: alarms first, then each stage in turn, then groups that were never measured."""
    if not rows:
        return ("No steps are recorded yet.",)
    alarms: dict[str, list[str]] = {}
    course: list[str] = []
    stages = dict.fromkeys((row.number, row.stage) for row in rows)
    for number, stage in stages:
        here = [row for row in rows if (row.number, row.stage) == (number, stage)]
        label = stage_label(number, stage)
        for found in _alike(here):
            sentence = _sentence(found, len(here))
            if found[0].alarm:
                alarms.setdefault(sentence, []).append(label)
            else:
                course.append(f"{label}: {sentence}")
        course += [f"{label}: {sentence}" for sentence in _of_the_gradient(here)]
    course += _cancelled(rows)
    seen = {row.group for row in rows}
    if missing := [name for name in groups if name not in seen]:
        course.append(f"Never measured: {listed(missing, GROUPS_NAMED)}.")
    return (*(f"{_labels(at, len(stages))}: {said}" for said, at in alarms.items()), *course)


def _labels(labels: Sequence[str], total: int) -> str:
    """The stages that one alarm is about."""
    if len(labels) == 1:
        return labels[0]
    if len(labels) == total:
        return "Both stages" if total == 2 else f"All {total} stages"
    return listed(labels, GROUPS_NAMED)


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one verdict together, in the order of the kinds; alarms also of one suspect."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for kind in VerdictKind:
        for row in rows:
            if row.verdict.kind is kind:
                suspect = row.verdict.suspect if row.verdict.alarm else None
                key = (kind, row.verdict.alarm, row.acknowledged, suspect)
                found.setdefault(key, []).append(row)
    return list(found.values())


def _of_the_gradient(rows: Sequence[Row]) -> list[str]:
    """What happened to the gradients of one or more groups, each of it once."""
    told: dict[str, None] = {}
    reasons = [reason for row in rows for reason in row.verdict.reasons]
    for reason in reasons:
        if reason.kind in (AngleReason.SCALED, BesideReason.SCALED):
            told[str(BesideReason.SCALED_AT_ALL(**reason.numbers))] = None
        elif reason.kind is BesideReason.NORM_CLIPPED:
            told[str(BesideReason.CLIPPED_AT_ALL(**reason.numbers))] = None
    return [*told, *_used_again(rows)]


def _used_again(rows: Sequence[Row]) -> list[str]:
    """Which groups were stepped twice with one gradient, and how often."""
    shares: dict[str, float] = {}
    for row in rows:
        for reason in row.verdict.reasons:
            if reason.kind in (BesideReason.STALE, RadialReason.RADIAL_STALE):
                shares[row.group] = float(reason.numbers["share"])
    if not shares:
        return []
    who = _who(list(shares), len(rows))
    return [
        f"{who} used the gradient of the step before again in "
        f"{_span(list(shares.values()), '.0%')} of the steps."
    ]


def _who(groups: Sequence[str], total: int) -> str:
    """Some of all groups as the subject of a sentence."""
    if len(groups) == total > 1:
        return "both groups" if total == 2 else f"all {total} groups"
    return listed(groups, GROUPS_NAMED)


def _cancelled(rows: Sequence[Row]) -> list[str]:
    """Sentences about the groups in whose last stage the loss cancels most of the decay, or all."""
    last = {row.group: row.tug for row in rows}
    shares = {
        name: -tug.forces.loss / tug.forces.decay
        for name, tug in last.items()
        if tug.forces.decay > 0 and math.isfinite(tug.forces.loss)
    }
    worst = sorted(
        (n for n, x in shares.items() if x >= CANCELLED_SHARE), key=lambda name: -shares[name]
    )
    outweighed = [name for name in worst if last[name].pull.high < 0]
    cancelled = [name for name in worst if name not in outweighed]
    found = []
    if outweighed:
        found.append(f"In {listed(outweighed, GROUPS_NAMED)} the loss outweighs weight decay.")
    if cancelled:
        part = _span([min(shares[name], 1.0) for name in cancelled], ".0%")
        found.append(
            f"In {listed(cancelled, GROUPS_NAMED)} the loss cancels {part} of weight decay's pull."
        )
    return found


def stage_label(number: int, stage: Stage) -> str:
    """The name of a stage in sentences: its number and, if constant, its learning rate."""
    return f"Stage {number} (lr {stage.hp.lr:g})" if stage.hp else f"Stage {number} (it varies)"


def _sentence(rows: Sequence[Row], total: int) -> str:
    kind = rows[0].verdict.kind
    if len(rows) == 1:
        who, are, turns, they = rows[0].group, "is", "it turns", "It"
    else:
        everyone = "both groups" if total == 2 else f"all {total} groups"
        who = everyone if len(rows) == total else f"{len(rows)} of {total} groups"
        are, turns, they = "are", "they turn", "They"
    if kind is VerdictKind.IN_EQUILIBRIUM:
        return (
            f"{who} {are} in equilibrium: {_span([r.measured for r in rows], '.3g')} rad a step, "
            f"{_span([r.ratio for r in rows], '.2f')} of the predicted angle."
        )
    if kind is VerdictKind.APPROACHING and rows[0].stage.hp is not None:
        shares = [row.measured / row.equilibrium for row in rows]
        waits = (TransientReason.STEPS_LEFT, TransientReason.STEP_LEFT)
        waiting = [row.verdict for row in rows if any(map(row.verdict.has_reason, waits))]
        known = [verdict.evidence["steps_more"] for verdict in waiting]
        span = _span(known, ",.0f") if known else ""
        more = "step" if span == "1" else "steps"
        until = f" {they} would need about {span} more {more}." if span else ""
        return (
            f"{who} {are} not yet in equilibrium: {turns} at {_span(shares, '.2f')} of it, "
            f"{_span([r.ratio for r in rows], '.2f')} of what the transient predicts.{until}"
        )
    named = listed([r.group for r in rows], GROUPS_NAMED) if 1 < len(rows) < total else ""
    beside = "; ".join(word for word in (named, rows[0].beside.strip(" ()")) if word)
    reason = rows[0].verdict.reason if len(rows) == 1 else _shared(kind, rows)
    state = (kind.meaning.state or kind.value) + (f" ({beside})" if beside else "")
    return f"{who} {are} {state}: {reason}.".replace("?.", "?")


def _shared(kind: VerdictKind, rows: Sequence[Row]) -> str:
    """The range of a number that several rows of one verdict share."""
    if rows[0].verdict.alarm and len({row.verdict.reason for row in rows}) > 1:
        return f"for example {rows[0].group}: {rows[0].verdict.reason}"
    if all(row.verdict.has_reason(SampleReason.TOO_WIDE) for row in rows):
        low, high = min(row.interval[0] for row in rows), max(row.interval[1] for row in rows)
        return (
            f"the 95% intervals of measured over predicted angle, within {low:.2f} to {high:.2f}, "
            "are too wide"
        )
    if kind.meaning.shared:
        name, spec, words = kind.meaning.shared
        known = [row.verdict.evidence[name] for row in rows if name in row.verdict.evidence]
        if known:
            return words.format(_span(known, spec))
    if kind is VerdictKind.NO_PREDICTION and len({row.verdict.reason for row in rows}) > 1:
        return "each for a reason of its own, which stands beside it"
    return rows[0].verdict.reason


def _span(values: Sequence[float], spec: str) -> str:
    low, high = format(min(values), spec), format(max(values), spec)
    return low if low == high else f"{low} to {high}"
