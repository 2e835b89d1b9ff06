"""Values that JSON gave, checked one by one; an error names the place and what was found."""

from __future__ import annotations

import math
from typing import Any

MOST_CHARACTERS = 10_000
"""Length of a name."""

DEEPEST = 16
"""How deeply lists and objects may lie in each other within a setting or an event."""

MOST_WHOLE = 2**53
"""The largest whole number where nothing else bounds it; float64 holds all up to it."""


class Malformed(ValueError):
    """A value is not what a writer writes."""


def malformed(at: str, wanted: str, found: object) -> Malformed:
    """The error for a value at a place."""
    shown = repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return Malformed(f"{at} must be {wanted}, found {shown}")


def text(value: object, at: str, most: int = MOST_CHARACTERS) -> str:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise malformed(at, "text", value)
    if len(value) <= MOST_CHARACTERS and value.isascii():  # nearly all
        return value
    if len(value) > most:
        raise malformed(at, f"text of at most {most:,} characters", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise malformed(at, "text without halves of characters", value) from None
    return value


def whole(value: object, at: str, least: int = 0, most: int = MOST_WHOLE) -> int:
    """A whole number within bounds; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise malformed(at, f"a whole number from {least} to {most}", value)
    return value


def number(value: object, at: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise malformed(at, "a number", value)
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise malformed(at, "a finite number", value)
    return found


def items(value: object, at: str, most: int) -> list[Any]:
    """A list of at most `most` entries."""
    if not isinstance(value, list):
        raise malformed(at, "a list", value)
    if len(value) > most:
        raise Malformed(f"{at} must have at most {most:,} entries, found {len(value):,}")
    return value


def members(value: object, at: str) -> dict[str, Any]:
    """An object, which JSON maps from names to values."""
    if not isinstance(value, dict):
        raise malformed(at, "an object", value)
    for name in value:
        text(name, f"a name in {at}")
    return value


def shallow(value: object, at: str, depth: int = DEEPEST) -> None:
    """Raise Malformed if lists and objects lie too deeply in each other, or text is broken."""
    if isinstance(value, str):
        text(value, at, most=2**24)
    elif isinstance(value, (list, dict)):
        if depth == 0:
            raise Malformed(f"{at} must be nested at most {DEEPEST} deep")
        for name in value if isinstance(value, dict) else ():
            text(name, f"a name in {at}")
        for entry in value.values() if isinstance(value, dict) else value:
            shallow(entry, at, depth - 1)
