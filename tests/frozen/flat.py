"""Results of any kind, taken apart into values that JSON can hold.

A number, a truth value or an array becomes one value. A dataclass, a named tuple or a sequence
becomes several, one for each part, under longer keys. Sentences are left out: their wording may
change.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from spherical_motion import Gram, HyperParameters

__all__ = ["Value", "call", "flatten", "thinned"]

Value = tuple[str, Any]
"""A key, and what JSON makes of its value."""

SENTENCES = ("sentence", "reason", "settings", "unknown", "neglects", "doubt")
"""Fields that hold words for people."""

REPEATED = ("falling_short",)
"""Properties that only hold again what other fields hold."""

LONGEST = 5
"""Entries kept of an array: the first, the last and some between."""


def call(key: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Value]:
    """The values of what a function returns, or the class of the exception that it raises."""
    try:
        result = function(*args, **kwargs)
    except Exception as error:  # whatever it is, its class is what is frozen
        yield key, f"raises {type(error).__name__}"
        return
    yield from flatten(key, result)


def flatten(key: str, value: Any) -> Iterator[Value]:
    """The values that a result is made of."""
    if value is None or isinstance(value, (bool, int, float, str)):
        yield key, _plain(value)
    elif isinstance(value, np.generic):
        yield key, value.item()
    elif isinstance(value, enum.Enum):
        yield key, value.value
    elif isinstance(value, np.ndarray):
        yield key, {"shape": list(value.shape), "values": thinned(value)}
    elif isinstance(value, Gram):
        yield from flatten(key, value.to_array())
    elif isinstance(value, HyperParameters):
        yield key, [value.optimizer, value.lr, value.weight_decay, value.momentum]
    elif dataclasses.is_dataclass(value):
        yield from _parts(key, {name: getattr(value, name) for name in _attributes(value)})
    elif hasattr(value, "_asdict"):
        yield from _parts(key, value._asdict())
    elif isinstance(value, Mapping):
        yield from _parts(key, value)
    elif isinstance(value, (tuple, list)):
        yield f"{key}.len", len(value)
        yield from _parts(key, dict(enumerate(value)))
    elif hasattr(value, "detach"):
        yield from flatten(key, value.detach().cpu().double().numpy())
    else:
        raise TypeError(f"{key}: there is no way to freeze a {type(value).__name__}.")


def thinned(array: np.ndarray, longest: int = LONGEST) -> list[Any]:
    """At most `longest` entries, evenly spaced, and the first and the last among them."""
    entries = array.ravel()
    if entries.size > longest:
        entries = entries[np.linspace(0, entries.size - 1, longest).astype(int)]
    return entries.tolist()


def _plain(value: Any) -> Any:
    """The built-in number that a subclass of it stands for."""
    return float(value) if isinstance(value, float) else value


def _attributes(result: Any) -> list[str]:
    """Fields and properties of a dataclass that hold values."""
    names = [field.name for field in dataclasses.fields(result)]
    names += [
        name
        for name, kind in vars(type(result)).items()
        if isinstance(kind, property) and not name.startswith("_") and name not in REPEATED
    ]
    return [name for name in names if not _is_sentence(result, name)]


def _is_sentence(result: Any, name: str) -> bool:
    if name in SENTENCES:
        return True
    # A forecast's `start` says in words where its first norm comes from; a stage's is a step.
    return name == "start" and isinstance(getattr(result, name), str)


def _parts(key: str, parts: Mapping[Any, Any]) -> Iterator[Value]:
    for name, part in parts.items():
        yield from flatten(f"{key}.{name}", part)


def is_number(value: Any) -> bool:
    """Whether a value is compared within a tolerance."""
    return isinstance(value, float) and math.isfinite(value)
