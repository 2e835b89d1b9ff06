"""Parameters with one role in a network: the same place in repeated modules."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

from spherical_motion.invariance.running import Evidence
from spherical_motion.vocabulary.groups import module_of

INDEX = re.compile(r"^\d+$")
SUFFIX = re.compile(r"\d+$")
"""`blocks.3` counts modules by an index, `encoder_layer_3` by a suffix; so does `conv3`."""


def starred(name: str, place: int | None = None, number: re.Pattern[str] = INDEX) -> str:
    """A name with its indices, or the one at `place` among them, replaced by a star.

    >>> starred("blocks.3.mlp.0.weight"), starred("blocks.3.mlp.0.weight", 0)
    ('blocks.*.mlp.*.weight', 'blocks.*.mlp.0.weight')
    >>> starred("layers.layer_3.conv1.weight", 0, SUFFIX)
    'layers.layer_*.conv1.weight'
    """
    parts = name.split(".")
    counted = [i for i, part in enumerate(parts) if number.search(part)]
    for i in counted if place is None else counted[place : place + 1]:
        parts[i] = number.sub("*", parts[i])
    return ".".join(parts)


def builds_of(evidence: Evidence) -> dict[str, Hashable]:
    """For each parameter the build of its module: names and shapes of all its parameters."""
    modules: dict[str, list[Hashable]] = {}
    for name, axes in evidence.items():
        shape = tuple((rows.rows, rows.entries) for rows in axes)
        modules.setdefault(module_of(name), []).append((name.rpartition(".")[2], shape))
    return {name: tuple(modules[module_of(name)]) for name in evidence}


def roles_of(
    names: Sequence[str], builds: Mapping[str, Hashable] | None = None
) -> list[list[tuple[str, ...]]]:
    """Ways to sort parameters into roles, the finest first; each a partition in model order.

    Parameters whose modules differ in `builds`, as a convolution and the norm behind it in one
    `Sequential`, have different roles.

    >>> roles_of(["stem.weight", "blocks.0.conv.weight", "blocks.1.conv.weight"])
    [[('stem.weight',), ('blocks.0.conv.weight', 'blocks.1.conv.weight')]]
    """
    partitions: list[list[tuple[str, ...]]] = []
    for number in (INDEX, SUFFIX):
        deepest = max((sum(map(bool, map(number.search, n.split(".")))) for n in names), default=0)
        for place in [*reversed(range(deepest)), None]:
            roles: dict[Hashable, list[str]] = {}
            for name in names:
                build = builds[name] if builds else None
                roles.setdefault((starred(name, place, number), build), []).append(name)
            partition = [tuple(members) for members in roles.values()]
            if len(partition) < len(names) and partition not in partitions:
                partitions.append(partition)
    return sorted(partitions, key=len, reverse=True)
