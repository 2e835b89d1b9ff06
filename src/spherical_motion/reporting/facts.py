"""The page's words beside table and charts: tally, groups to pick, events, origin."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from spherical_motion.comparison import Comparison, ForceCurves, Row, TugOfWar
from spherical_motion.notices import listed
from spherical_motion.records import RunInfo
from spherical_motion.reporting.selection import depth_colors, first_colors
from spherical_motion.reporting.wording import counted, shortened
from spherical_motion.vocabulary import Tone, VerdictKind

EVENTS_LISTED = 200
"""At most this many events of one kind are written out; the run directory has them all."""

LARGEST_SHARE = 10.0
"""Groups in which the loss pulls more than so many times the decay count as equal."""

SPANS_NAMED = 3
"""At most so many stretches of steps are named."""

_EVENT_TEXT_LENGTH = 300
_OWN_COLUMNS = ("kind", "step", "time")


def tally_of(rows: Iterable[Row]) -> list[tuple[VerdictKind, Tone, int]]:
    """How often each verdict was given, and in its most urgent tone, in the order of the kinds."""
    counts = Counter((row.verdict.kind, row.tone) for row in rows)
    found = []
    for kind in VerdictKind:
        if tones := [tone for tone in Tone if counts[kind, tone]]:
            found.append((kind, tones[-1], sum(counts[kind, tone] for tone in tones)))
    return found


def groups_to_pick(comparison: Comparison, shown: Sequence[int]) -> list[dict[str, str | bool]]:
    """One entry a group: its colours, whether it is shown at first, its latest verdict."""
    colors = first_colors(len(comparison.groups), shown)
    depth = depth_colors(len(comparison.groups))
    latest = {row.group: row for row in comparison.rows}
    return [
        {
            "name": name,
            "color": colors[i],
            "depth_color": depth[i],
            "shown": i in shown,
            "verdict": latest[name].called if name in latest else "",
            "tone": latest[name].tone.value if name in latest else "",
        }
        for i, name in enumerate(comparison.groups)
    ]


def tug_to_begin_with(
    comparison: Comparison, forces: Sequence[ForceCurves]
) -> tuple[int | None, str]:
    """Index of the group in which the loss pulls most, for its decay, and why this one.

    None if no group has an account of its norm; no reason where there is no choice.
    """
    latest = {row.group: row.tug.forces for row in comparison.rows}

    def loss_of(index: int) -> float:
        """The loss's pull over that of weight decay; below 0 it pushes outward."""
        found = latest.get(comparison.groups[index])
        known = found is not None and found.decay > 0 and math.isfinite(found.loss)
        return found.loss / found.decay if found and known else 0.0

    known = [i for i, curves in enumerate(forces) if curves.steps.size]
    chosen = max(known, key=lambda i: min(abs(loss_of(i)), LARGEST_SHARE), default=None)
    if chosen is None or len(forces) == 1:
        return chosen, ""
    name, loss = shortened(comparison.groups[chosen]), loss_of(chosen)
    times = f"{abs(loss):.2g} times" if abs(loss) < LARGEST_SHARE else "many times"
    if -1 < loss < 0:
        why = f"where the loss cancels more of weight decay than elsewhere ({-loss:.0%})"
    elif loss < 0:
        why = f"where the loss pushes outward {times} as hard as weight decay pulls inward"
    elif loss > 0:
        why = f"where the loss pulls {times} as hard as weight decay"
    else:
        why = "the first group with a chart"
    few = f" {len(known)} of {len(forces)} groups have a chart." if len(known) < len(forces) else ""
    return chosen, f"Shown first: {name}, {why}.{few}"


def groups_of_tug(
    comparison: Comparison, forces: Sequence[ForceCurves], chosen: int | None
) -> list[dict[str, str | bool]]:
    """One entry a group: what its latest row says of its tug of war, and where the law failed."""
    latest = {
        row.group: f"Stage {row.number}: {row.words}" if row.number > 1 else row.words
        for row in comparison.rows
    }
    return [
        {
            "name": name,
            "words": latest.get(name, "It was never measured."),
            "failed": failure_of(curves),
            "chosen": i == chosen,
        }
        for i, (name, curves) in enumerate(zip(comparison.groups, forces, strict=True))
    ]


def steps_told(
    comparison: Comparison, forces: Sequence[ForceCurves]
) -> list[tuple[float, float] | None]:
    """First and last of the steps that each group's sentence is about; None if it has none."""
    tugs = {row.group: row.tug for row in comparison.rows}
    found: list[tuple[float, float] | None] = []
    for name, curves in zip(comparison.groups, forces, strict=True):
        tug = tugs.get(name, TugOfWar())
        told = tug.window > 0 and curves.last.size > 0
        found.append((tug.until - float(tug.window), tug.until - 1.0) if told else None)
    return found


def failure_of(curves: ForceCurves) -> str:
    """The steps in which the parts do not add up to the growth, in a sentence; empty if none."""
    spans = curves.spans(curves.failed)
    if not spans:
        return ""
    named = listed([f"{first:,} to {last:,}" for first, last in spans], SPANS_NAMED)
    return (
        f"In the hatched steps ({named}) turning, loss and weight decay do not add up to the black "
        "line: something else moved these weights, or a part was not measured. Trust the line, "
        "which is measured, and not the colours."
    )


def left_out(shown: int, count: int) -> str:
    """Why not all groups are shown at first; empty if they are."""
    if shown >= count:
        return ""
    rest = count - shown
    return (
        f"{counted(rest, 'group')} {'is' if rest == 1 else 'are'} left out at first, so that the "
        "lines stay readable. Shown are those whose verdict asks for attention, and others from "
        "the first layer to the last."
    )


def events_by_kind(
    events: Iterable[Mapping[str, object]],
) -> list[tuple[str, list[dict[str, str]], int]]:
    """(kind, the first of them as text, how many there are), in order of appearance."""
    found: dict[str, list[Mapping[str, object]]] = {}
    for event in events:
        found.setdefault(str(event.get("kind", "event")), []).append(event)
    return [
        (kind, [_event_text(event) for event in same[:EVENTS_LISTED]], len(same))
        for kind, same in found.items()
    ]


def _event_text(event: Mapping[str, object]) -> dict[str, str]:
    step = event.get("step")
    rest = ", ".join(f"{k} = {v}" for k, v in event.items() if k not in _OWN_COLUMNS)
    return {
        "step": f"{step:,}" if isinstance(step, int) else "",
        "rest": shortened(rest, _EVENT_TEXT_LENGTH),
        "time": str(event.get("time", "")),
    }


def provenance_of(info: RunInfo) -> list[tuple[str, str]]:
    """Where the numbers come from, as (label, text)."""
    facts = [
        ("Command", info.command),
        ("Created", info.created),
        ("Commit", info.commit or ""),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    ]
    return [(label, text) for label, text in facts if text]
