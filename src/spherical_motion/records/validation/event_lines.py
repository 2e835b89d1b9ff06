"""`events.jsonl`, line by line: what a reader relies on has the type that it has been given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from spherical_motion.notices import listed
from spherical_motion.records.files.events import TAIL, Event, check_line
from spherical_motion.records.parts import Parts
from spherical_motion.records.validation.values import (
    MOST_WHOLE,
    Malformed,
    items,
    malformed,
    members,
    number,
    shallow,
    text,
    whole,
)
from spherical_motion.vocabulary import EventKind

MOST_ENTRIES = 10_000_000
"""Entries of a list in an event."""

UNKNOWN_BRANCHES = (
    "which rows were given up is not known: rows of a branch that was given up may be among those "
    "read"
)
"""What is true where an event of a resume may be lost."""

Check = Callable[[object, str], object]


def sound_events(path: Path, parts: Parts) -> tuple[Event, ...]:
    """All complete lines that hold an event, in their order; `parts` remembers the others.

    A last line without an end is that of a killed writer, and zeros are where a power cut left an
    append unfinished; no writer writes any. A single zero, or one byte after a line that is whole,
    is damage. Every run has the file, be it empty.

    Raises:
        RunDirectoryError: `parts` is strict, and a line holds no event, or there is no file.
    """
    try:
        if not path.is_file():
            raise OSError("it is no file" if path.exists() else "it is missing")
        *lines, torn = path.read_bytes().split(b"\n")
    except OSError as error:
        parts.leave_out(path, f"{error}; {UNKNOWN_BRANCHES}")
        return ()
    found: list[Event] = []
    damaged: list[str] = []
    hides_resume = False
    for i, line in enumerate(lines, start=1):
        if line.count(b"\0") > 1:
            continue
        try:
            found.append(_event(line))
        except (ValueError, RecursionError) as error:
            damaged.append(f"line {i}: {error}")
            hides_resume |= _may_be_resume(line)
    if TAIL.search(torn[:-1]):
        damaged.append(f"line {len(lines) + 1}: its end is another byte")
        hides_resume |= _may_be_resume(torn)
    if damaged:
        tail = [UNKNOWN_BRANCHES] if hides_resume else []
        parts.leave_out(path, "; ".join([listed(damaged, separator="; "), *tail]))
    return tuple(found)


def _may_be_resume(line: bytes) -> bool:
    """Whether a damaged line may have told of a resume: its kind is that, or not known."""
    try:
        kind = json.loads(line)["kind"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return True
    return not isinstance(kind, str) or kind not in frozenset(EventKind) - {EventKind.RESUMED}


def _event(line: bytes) -> Event:
    event = members(json.loads(check_line(line)), "an event")
    for name in ("time", "kind"):
        if name not in event:
            raise Malformed(f"an event has no {name}")
        text(event[name], name)
    _step(event.setdefault("step", None), "step")
    shallow(event, "an event")
    for name, check in _KNOWN.get(event["kind"], {}).items():
        if name not in event and name not in _MAY_LACK:
            raise Malformed(f"an event {event['kind']!r} has no {name}")
        if name in event:
            check(event[name], name)
    return event


def _step(value: object, at: str) -> None:
    if value is not None:
        whole(value, at)


def _number(value: object, at: str) -> None:
    if value is not None:
        number(value, at)


def _steps(value: object, at: str) -> None:
    for step in items(value, at, MOST_ENTRIES):
        _step(step, at)


def _names(value: object, at: str) -> None:
    for name in items(value, at, MOST_ENTRIES):
        text(name, at)


def _flag(value: object, at: str) -> None:
    if not isinstance(value, bool):
        raise malformed(at, "true or false", value)


def _segments(value: object, at: str) -> None:
    for segment in members(value, at).values():
        whole(segment, at, most=MOST_WHOLE)


_PARAM_GROUP: dict[str, Check] = {"optimizer": whole, "param_group": whole}
_SETTINGS = ("lr", "weight_decay", "momentum", "lr_before", "weight_decay_before")

_KNOWN: Mapping[str, Mapping[str, Check]] = {
    EventKind.CLOSED: {"steps": _steps, "segments": _segments},
    EventKind.RESUMED: {"segments": _segments, "gives_up": _flag},
    EventKind.RATE_CHANGED: {**_PARAM_GROUP, **dict.fromkeys(_SETTINGS, _number)},
    EventKind.SETTINGS_CHANGED: {**_PARAM_GROUP, "changed": members},
    EventKind.HAD_STATE: {"parameters": _names},
    EventKind.NOT_STEPPED: {"parameters": _names, "why": text},
    EventKind.SECOND_OPTIMIZER: {"parameters": _names, "optimizer": text},
}
"""What readers take from events of the library's own kinds."""

_MAY_LACK = frozenset(("segments", "gives_up", "optimizer", "param_group", *_SETTINGS))
"""Of these a reader knows what it means that they are absent."""
