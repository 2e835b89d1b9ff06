"""A run restricted to some of its groups: its facts, and the numbers that it knows anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from spherical_motion.records.info import RunInfo

NUMBER = 8
"""Bytes of a float64."""


class Restriction(NamedTuple):
    """Facts of a run with fewer groups; each new number is a place in these tuples of old ones."""

    info: RunInfo
    groups: tuple[int, ...]
    slices: tuple[int, ...]
    parameters: tuple[int, ...]


def restricted(info: RunInfo, groups: Sequence[int]) -> Restriction:
    """The facts of a run as if it had measured these groups alone, in this order.

    Args:
        info: the facts of the whole run.
        groups: numbers of groups, each once.
    """
    slices = tuple(dict.fromkeys(i for group in groups for i in info.members[group]))
    number = {name: i for i, name in enumerate(info.parameters)}
    kept = dataclasses.replace(
        info,
        groups=tuple(info.groups[i] for i in groups),
        slices=tuple(info.slices[i] for i in slices),
        slice_param_group=tuple(info.slice_param_group[i] for i in slices),
        regrouped=tuple(tuple(later[i] for i in slices) for later in info.regrouped),
    )
    parameters = tuple(number[name] for name in kept.parameters)
    return Restriction(kept, tuple(groups), slices, parameters)


def blocks_of_groups(info: RunInfo, steps: int, limit: int) -> Iterator[range]:
    """Consecutive groups whose dense arrays take at most `limit` bytes; at least one group each.

    Args:
        info: the facts of the run.
        steps: how many steps it has recorded.
        limit: bytes of all products of a block, per slice and, where groups have several, summed.
    """
    first, held = 0, 0
    for group, members in enumerate(info.members):
        arrays = len(members) if len(members) == 1 else len(members) + 1
        size = NUMBER * steps * info.products * arrays
        if held and held + size > limit:
            yield range(first, group)
            first, held = group, 0
        held += size
    yield range(first, len(info.members))
