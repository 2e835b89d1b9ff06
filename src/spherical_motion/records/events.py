"""What happened during a run: `events.jsonl`, one JSON object a line, appended and synced."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spherical_motion.errors import RunDirectoryError
from spherical_motion.records.durable import sync_file

__all__ = ["append_events", "drop_torn_line", "make_event", "read_events"]


def make_event(kind: str, /, step: int | None = None, **data: Any) -> dict[str, Any]:
    """An event that happens now, as it is stored: time (ISO 8601), kind, step, then the data.

    >>> list(make_event("rescaled", step=7, factor=0.5))
    ['time', 'kind', 'step', 'factor']
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    event = {"time": now, "kind": kind, "step": step}
    # Data under a name of ours keep a trailing underscore instead of taking its place.
    return event | {(f"{key}_" if key in event else key): value for key, value in data.items()}


def append_events(path: Path, events: Iterable[Mapping[str, Any]]) -> None:
    """Append to an existing file; when it returns, the lines survive a power cut."""
    text = "".join(_line(event) for event in events)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)  # no O_CREAT: a deleted run stays deleted
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    sync_file(path)


def drop_torn_line(path: Path) -> None:
    """Cut off what a killed writer left of its last line."""
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        os.truncate(path, whole)


def read_events(path: Path) -> tuple[dict[str, Any], ...]:
    """All whole lines, in the order in which they were written; none if there is no file.

    Raises:
        RunDirectoryError: a line is damaged.
    """
    if not path.exists():
        return ()
    *whole, _torn = path.read_bytes().split(b"\n")
    try:
        return tuple(json.loads(line) for line in whole)
    except ValueError as error:
        raise RunDirectoryError(
            f"{path} is damaged ({error}). Restore it from a copy, or move it away to read the "
            "rest of the run."
        ) from error


def _line(event: Mapping[str, Any]) -> str:
    return json.dumps(_plain(event), allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """`value` as strict JSON can hold it: a non-finite number is null, a stranger its text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return _plain(value.tolist())
    return str(value)
