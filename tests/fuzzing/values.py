"""Values that nobody expects, and where to put them in a JSON document."""

from __future__ import annotations

import random
from typing import Any


def deep(depth: int) -> list[Any]:
    """A list in a list in a list ..."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        "",
        "x",
        "conv.weight",
        "nan",
        "\ud800",
        "\u202e",
        "\x1b[31m",
        "n" * 20_000,
    ),
    *(0, 1, -1, 1.5, 7, 2**31, 2**53, 2**62, 2**63, 10**12, 10**30, -(10**9)),
    *(1e308, -1e-300, float("nan"), float("inf"), -float("inf")),
    *([], {}, [[]], [None], [0, 1, 2], ["x"], {"float": "inf"}, {"float": "x"}, {"x": {}}),
    *(deep(30), deep(200), [1] * 1000),
)


def places(document: Any, depth: int = 12) -> list[tuple[Any, Any]]:
    """All (container, key) pairs in a document."""
    found: list[tuple[Any, Any]] = []
    keys: Any = ()
    if isinstance(document, dict):
        keys = list(document)
    elif isinstance(document, list):
        keys = range(len(document))
    for key in keys:
        found.append((document, key))
        if depth:
            found.extend(places(document[key], depth - 1))
    return found


def change_one(document: Any, rng: random.Random) -> str:
    """Change one value somewhere in a document; returns what was done."""
    container, key = rng.choice(places(document))
    at = f"at {key!r}"
    how = rng.randrange(6)
    if how == 0:
        del container[key]
        return f"deleted {at}"
    if how == 1 and isinstance(container[key], list) and container[key]:
        container[key] = container[key] * rng.choice((2, 50))
        return f"repeated {at}"
    if how == 2 and isinstance(container, list):
        container.append(container[key])
        return f"doubled {at}"
    if how == 3 and isinstance(container[key], int):
        container[key] = rng.choice((-1, 0, 2**31, 2**53 + 1, 2**63, 10**9, 10**18, 99))
        return f"{container[key]} {at}"
    value = rng.choice(ODD)
    container[key] = value
    return f"{value!r:.40} {at}"
