"""Parameters that play one role in a network: the same place in repeated modules."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["roles_of", "starred"]


def starred(name: str, place: int | None = None) -> str:
    """A name with its indices, or the one at `place` among them, replaced by a star.

    >>> starred("blocks.3.mlp.0.weight"), starred("blocks.3.mlp.0.weight", 0)
    ('blocks.*.mlp.*.weight', 'blocks.*.mlp.0.weight')
    """
    parts = name.split(".")
    indices = [i for i, part in enumerate(parts) if part.isdigit()]
    for i in indices if place is None else indices[place : place + 1]:
        parts[i] = "*"
    return ".".join(parts)


def roles_of(names: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """Ways to sort parameters into roles, the finest first; each a partition in model order.

    >>> roles_of(["stem.weight", "blocks.0.conv.weight", "blocks.1.conv.weight"])
    [[('stem.weight',), ('blocks.0.conv.weight', 'blocks.1.conv.weight')]]
    """
    deepest = max((sum(p.isdigit() for p in n.split(".")) for n in names), default=0)
    partitions: list[list[tuple[str, ...]]] = []
    for place in [*reversed(range(deepest)), None]:
        roles: dict[str, list[str]] = {}
        for name in names:
            roles.setdefault(starred(name, place), []).append(name)
        partition = [tuple(members) for members in roles.values()]
        if len(partition) < len(names) and partition not in partitions:
            partitions.append(partition)
    return sorted(partitions, key=len, reverse=True)
