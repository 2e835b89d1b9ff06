"""The events of a run: `events.jsonl`, one JSON object a line, appended and synced."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from spherical_motion.records.files.durable import append_synced, cut_synced

Event: TypeAlias = dict[str, Any]
"""An event as JSON reads it: "time", "kind", "step" and the data of its kind."""


def make_event(kind: str, /, step: int | None = None, **data: object) -> Event:
    """An event that happens now, as it is stored: time (ISO 8601), kind, step, then the data.

    >>> list(make_event("rescaled", step=7, factor=0.5))
    ['time', 'kind', 'step', 'factor']
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    event = {"time": now, "kind": kind, "step": step}
    # Data named time, kind or step get a trailing underscore, so that they replace nothing.
    return event | {(f"{key}_" if key in event else key): value for key, value in data.items()}


def append_events(path: Path, events: Iterable[Event]) -> None:
    """Append to an existing file; when it returns, the lines survive a power cut."""
    lines = (json.dumps(_plain(e), allow_nan=False, ensure_ascii=False) for e in events)
    append_synced(path, "".join(f"{line}\n" for line in lines).encode())


def drop_torn_line(path: Path) -> None:
    """Cut off the incomplete last line of a killed writer."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        cut_synced(path, whole)


def _plain(value: object) -> object:
    """`value` for strict JSON: null for a non-finite number, text for an unknown type."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if callable(to_list := getattr(value, "tolist", None)):  # numpy and torch
        return _plain(to_list())
    return str(value)
