"""The events of a run: `events.jsonl`, one JSON object a line, appended and synced.

The last key of a line, "crc", is the CRC-32 of the bytes before it in its line, as eight
hexadecimal digits. Lines of older versions have none.
"""

from __future__ import annotations

import datetime
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import shown
from spherical_motion.records.files.checksum import require_file
from spherical_motion.records.files.durable import append_synced, cut_synced
from spherical_motion.vocabulary import EventKind

Event: TypeAlias = dict[str, Any]
"""An event as JSON reads it: "time", "kind", "step" and the data of its kind."""

CRC = "crc"
"""Key of the checksum of a line, the last one."""

TAIL = re.compile(rb', "crc": "([0-9a-f]{8})"\}\Z')

OWN_KINDS = frozenset(EventKind) - {EventKind.RESCALED, EventKind.RESCALING_LIMITED}
"""Kinds that only the library itself records."""

MOST_CHARACTERS = 1 << 24
"""An event of more characters than this is not recorded; it belongs into a file of its own."""

ENTRY = 16
"""Characters for which an entry of the data counts, beside those of its text."""

MOST_LEVELS = 15
"""Data may be nested this deep."""

MOST_IN_NAME = 10_000
"""Characters of a kind, and of a name within the data."""

MOST_STEPS = 2**53
"""Steps are smaller than this; float64 holds all of them."""


def make_event(kind: str, /, step: int | None = None, **data: object) -> Event:
    """An event that happens now, as it is stored: time (ISO 8601), kind, step, then the data.

    The data are copied with all that they hold, so that the caller may change them afterwards.

    Raises:
        InvalidArgument: JSON cannot hold it, or it is larger than an event may be. Objects of
            unknown classes may raise what they like when they are asked for their text.

    >>> list(make_event("rescaled", step=7, factor=0.5))
    ['time', 'kind', 'step', 'factor']
    """
    return sized_event(kind, step, data)[0]


def sized_event(kind: str, step: int | None, data: Mapping[str, object]) -> tuple[Event, int]:
    """`make_event`, and how many characters the event has."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    event = {"time": now, "kind": str(kind), "step": None if step is None else int(step)}
    if step is not None and not 0 <= int(step) < MOST_STEPS:
        raise InvalidArgument(f"step {shown(step)}; expected 0 to {MOST_STEPS - 1:,}")
    if max(len(name) for name in (event["kind"], *data)) > MOST_IN_NAME:
        raise InvalidArgument(f"a name of more than {MOST_IN_NAME:,} characters")
    # Data named like a key of ours get a trailing underscore, so that they replace nothing.
    own = {*event, CRC}
    event |= {(f"{key}_" if key in own else key): value for key, value in data.items()}
    copied = {str(key): _Plain().of(value) for key, value in event.items()}
    text = json.dumps(copied, allow_nan=False, ensure_ascii=False)
    if len(text) > MOST_CHARACTERS:
        raise _too_large()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"text that is no Unicode: {error.reason}") from error
    return copied, len(text)


def users_kind(kind: object) -> str:
    """The kind under which an event of a user is recorded; a word of the library's own gets "_".

    Readers act on what the library writes of its own kinds. Those of steering tools stay as they
    are: the tools tell of them through the same door as a user, and they have no fixed data.

    >>> users_kind("epoch"), users_kind("closed"), users_kind("rescaled")
    ('epoch', 'closed_', 'rescaled')
    """
    word = str(kind)
    return f"{word}_" if word in OWN_KINDS else word


def append_events(path: Path, events: Iterable[Event]) -> None:
    """Append to an existing file; when it returns, the lines survive a power cut."""
    append_synced(path, b"".join(_line(event) for event in events))


def check_line(line: bytes) -> bytes:
    """A line without its checksum; one that has none passes.

    Raises:
        ValueError: its bytes are not those that were written.
    """
    tail = TAIL.search(line)
    if tail is None:
        return line
    body, stored = line[: tail.start()], tail[1].decode()
    if (found := f"{zlib.crc32(body):08x}") != stored:
        raise ValueError(f"its bytes have the checksum {found}, and it was written with {stored}")
    return body + b"}"


def _line(event: Event) -> bytes:
    body = json.dumps(event, allow_nan=False, ensure_ascii=False).encode()[:-1]
    return body + f', "{CRC}": "{zlib.crc32(body):08x}"}}\n'.encode()


def drop_torn_line(path: Path) -> None:
    """Cut off the incomplete last line of a killed writer."""
    require_file(path)
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        cut_synced(path, whole)


class _Plain:
    """Copies a value for strict JSON, and stops at one that is too large or too deep."""

    def __init__(self) -> None:
        self._left, self._depth = MOST_CHARACTERS, 0

    def of(self, value: object) -> object:
        """`value` with null for a non-finite number and text for an unknown type."""
        self._take(ENTRY)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else None
        return self._of_many(value)

    def _of_many(self, value: object) -> object:
        self._depth += 1
        if self._depth > MOST_LEVELS:
            raise InvalidArgument(f"nested deeper than {MOST_LEVELS} levels, or in itself")
        if isinstance(value, Mapping):
            found: object = {self._name(key): self.of(item) for key, item in value.items()}
        elif isinstance(value, (list, tuple, set, frozenset)):
            found = [self.of(item) for item in value]
        elif callable(to_list := getattr(value, "tolist", None)):  # numpy and torch
            if math.prod(getattr(value, "shape", ())) * ENTRY > self._left:
                raise _too_large()  # before a list of it is made
            found = self.of(to_list())
        else:
            found = self._text(str(value))
        self._depth -= 1
        return found

    def _name(self, key: object) -> str:
        name = self._text(str(key))
        if len(name) > MOST_IN_NAME:
            raise InvalidArgument(f"a name of more than {MOST_IN_NAME:,} characters")
        return name

    def _text(self, value: str) -> str:
        self._take(len(value))
        return str.__str__(value)  # of a subclass, the text itself

    def _take(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise _too_large()


def _too_large() -> InvalidArgument:
    return InvalidArgument(f"more than {MOST_CHARACTERS:,} characters")
