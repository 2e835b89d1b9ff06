"""Groups and settings as short, strict JSON."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Schedule, Slice
from spherical_motion.vocabulary.groups import Cell

Run: TypeAlias = tuple[int, list[tuple[str, int, int, int]]]
"""(count, [(parameter, axis, start, width), ...]); JSON has lists for the tuples."""

Setting: TypeAlias = "bool | int | float | str | tuple[Setting, ...] | None"
"""A setting of a param group: a plain scalar, or a tuple of them."""

PLANNED = ("lr", "weight_decay", "momentum")
"""The settings that a schedule has at each step."""


def pack_cells(cells: Iterable[Cell]) -> list[Run]:
    """Cells as runs of equally wide neighbours: the filters of a layer are one entry.

    Cell number `i` of a run is its first cell with each slice shifted by `i` times its width.

    >>> filters = [(Slice("conv.weight", 0, i, i + 1), Slice("conv.bias", 0, i, i + 1))
    ...            for i in range(512)]
    >>> pack_cells(filters)
    [(512, [('conv.weight', 0, 0, 1), ('conv.bias', 0, 0, 1)])]
    """
    runs: list[Run] = []
    expected: Cell | None = None
    for cell in cells:
        if cell == expected:
            runs[-1] = (runs[-1][0] + 1, runs[-1][1])
        else:
            runs.append((1, [(s.parameter, s.axis, s.start, s.length) for s in cell]))
        expected = tuple(Slice(s.parameter, s.axis, s.stop, s.stop + s.length) for s in cell)
    return runs


def unpack_cells(runs: Iterable[Run]) -> tuple[Cell, ...]:
    """The exact inverse of `pack_cells`.

    >>> unpack_cells([(2, [("conv.weight", 0, 4, 2)])])[1][0].start
    6
    """
    return tuple(
        tuple(
            Slice(parameter, axis, start + i * width, start + (i + 1) * width)
            for parameter, axis, start, width in members
        )
        for count, members in runs
        for i in range(count)
    )


def pack_group(group: InvariantGroup) -> dict[str, object]:
    """A group as JSON."""
    plain: dict[str, object] = {
        "name": group.name,
        "kind": group.kind,
        "numel": group.numel,
        "defect": group.defect if group.proven else None,
        "slices": pack_cells((s,) for s in group.slices),
    }
    if group.cells != (group.slices,):  # left out if the group is one cell
        plain["cells"] = pack_cells(group.cells)
    if not math.isnan(group.defect_error):
        plain["defect_error"] = group.defect_error
    if group.powers:
        plain["powers"] = list(group.powers)
    return plain


def unpack_group(plain: Mapping[str, Any]) -> InvariantGroup:
    """The inverse of `pack_group`."""
    slices = tuple(s for (s,) in unpack_cells(plain["slices"]))
    return InvariantGroup(
        name=plain["name"],
        kind=plain["kind"],
        slices=slices,
        cells=unpack_cells(plain["cells"]) if "cells" in plain else (slices,),
        numel=plain["numel"],
        defect=math.nan if plain["defect"] is None else plain["defect"],
        defect_error=plain.get("defect_error", math.nan),
        powers=tuple(plain.get("powers", ())),
    )


def pack_plan(schedule: Schedule) -> dict[str, object]:
    """A schedule as JSON: each setting as runs of equal values.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> pack_plan(Schedule.step_decay(hp, steps=300, milestones=[100]))["lr"]
    [[100, 0.1], [200, 0.01]]
    """
    given = {name: getattr(schedule, name).tolist() for name in PLANNED}
    return {
        "hp": dataclasses.asdict(schedule.hp),
        "start": schedule.start,
        **{
            name: [[len(list(same)), value] for value, same in itertools.groupby(values)]
            for name, values in given.items()
        },
    }


def unpack_plan(plain: Mapping[str, Any]) -> Schedule:
    """The inverse of `pack_plan`.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    >>> unpack_plan(pack_plan(Schedule.cosine(hp, 9))).at(3) == Schedule.cosine(hp, 9).at(3)
    True
    """
    columns = (
        np.repeat([value for _, value in plain[name]], [count for count, _ in plain[name]])
        for name in PLANNED
    )
    return Schedule(HyperParameters(**plain["hp"]), *columns, start=plain["start"])


def frozen_setting(key: str, value: object) -> Setting:
    """`value` if it is a plain scalar, a tuple if it is a sequence of them.

    Raises:
        InvalidArgument: it is neither; the message names `key`.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(frozen_setting(key, item) for item in value)
    raise InvalidArgument(
        f"RunInfo(param_groups=...) must hold plain scalars, got {type(value).__name__} for "
        f"{key!r}. Convert it with float(...) or leave it out."
    )


def pack_setting(value: Setting) -> object:
    """A setting as JSON: a list for a tuple, `{"float": "inf"}` for a non-finite number."""
    if isinstance(value, tuple):
        return [pack_setting(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def unpack_setting(value: Any) -> Setting:
    """The inverse of `pack_setting`."""
    if isinstance(value, list):
        return tuple(unpack_setting(item) for item in value)
    if isinstance(value, dict):
        return float(value["float"])
    return value
