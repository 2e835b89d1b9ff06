"""`run.json`: its types, and bounds on every count that something is made from."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from spherical_motion.checks import MOST_STEPS
from spherical_motion.records.validation.values import (
    Malformed,
    items,
    malformed,
    members,
    number,
    shallow,
    text,
    whole,
)
from spherical_motion.vocabulary.gram import FIELDS, PRODUCTS

MOST_GROUPS = 2_000_000
"""Groups of a run, and param groups."""

MOST_CELLS = 10_000_000
"""Slices in all cells of all groups together."""

MOST_PLACE = 2**48
"""The largest index along an axis."""

PLANNED = ("lr", "weight_decay", "momentum")


def parse_document(source: str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: it is no strict JSON, or no object with a "schema_version".
    """

    def refuse(constant: str) -> NoReturn:
        raise Malformed(f"{constant} is not JSON")

    try:
        document = json.loads(source, parse_constant=refuse)
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    document = members(document, "it")
    if "schema_version" not in document:
        raise Malformed("it has no schema_version")
    whole(document["schema_version"], "schema_version", least=1)
    return document


def check_document(document: dict[str, Any]) -> None:
    """Check all that the facts of a run are made from; keys that are unknown may be anything.

    Raises:
        ValueError: a value is missing, of another type or out of bounds.
    """
    _check_plain(document)
    _check_param_groups(_of(document, "param_groups"))
    counted = _Counted()
    counted.runs(_of(document, "slices"), "slices")
    groups = items(_of(document, "groups"), "groups", MOST_GROUPS)
    for i, group in enumerate(groups):
        _check_group(group, f"groups[{i}]", counted)
    _check_indices(_of(document, "slice_param_group"), "slice_param_group")
    for i, later in enumerate(items(document.get("regrouped", []), "regrouped", 10_000)):
        _check_indices(later, f"regrouped[{i}]")
    whole(document.get("products", len(FIELDS)), "products", len(FIELDS), len(PRODUCTS))
    if document.get("plan") is not None:
        _check_plan(document["plan"])


def _of(document: dict[str, Any], name: str) -> Any:
    if name not in document:
        raise Malformed(f"{name} is missing")
    return document[name]


def _check_plain(document: dict[str, Any]) -> None:
    for name in ("created", "command"):
        text(_of(document, name), name, most=2**24)
    if _of(document, "commit") is not None:
        text(document["commit"], "commit")
    for name, value in members(_of(document, "versions"), "versions").items():
        text(value, f"versions[{name!r}]")
    for name, value in members(document.get("dtypes", {}), "dtypes").items():
        text(value, f"dtypes[{name!r}]")
    for name in ("every", "burst"):
        whole(_of(document, name), name, least=1)


def _check_param_groups(value: object) -> None:
    for i, group in enumerate(items(value, "param_groups", MOST_GROUPS)):
        at = f"param_groups[{i}]"
        for name, setting in members(group, at).items():
            _check_setting(setting, f"{at}[{name!r}]")
        text(_of(group, "class"), f"{at}['class']")
        if "subclass" in group:
            text(group["subclass"], f"{at}['subclass']")
        whole(group.get("optimizer", 0), f"{at}['optimizer']", most=MOST_GROUPS)


def _check_setting(value: object, at: str) -> None:
    """A plain scalar, a list of them, or `{"float": "inf"}`."""
    if value is None or isinstance(value, bool) or (type(value) is float and math.isfinite(value)):
        return
    shallow(value, at)
    if isinstance(value, list):
        for entry in value:
            _check_setting(entry, at)
    elif isinstance(value, dict):
        if set(value) != {"float"} or value["float"] not in ("nan", "inf", "-inf"):
            raise malformed(at, 'a plain value or {"float": "nan", "inf" or "-inf"}', value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number(value, at)


def _check_group(value: object, at: str, counted: _Counted) -> None:
    group = members(value, at)
    text(_of(group, "name"), f"{at}.name")
    text(_of(group, "kind"), f"{at}.kind")
    whole(_of(group, "numel"), f"{at}.numel", least=1, most=2**62)
    for name in ("defect", "defect_error"):
        if group.get(name) is not None and number(group[name], f"{at}.{name}") < 0:
            raise malformed(f"{at}.{name}", "a number >= 0", group[name])
    if "defect" not in group:
        raise Malformed(f"{at}.defect is missing")
    counted.runs(_of(group, "slices"), f"{at}.slices")
    if "cells" in group:
        counted.runs(group["cells"], f"{at}.cells")
    for power in items(group.get("powers", []), f"{at}.powers", MOST_CELLS):
        number(power, f"{at}.powers")


class _Counted:
    """How many slices the cells so far have; there is a bound on all of them together."""

    def __init__(self) -> None:
        self._slices = 0

    def runs(self, value: object, at: str) -> None:
        """Runs of cells: (count, [(parameter, axis, start, width), ...])."""
        for i, run in enumerate(items(value, at, MOST_CELLS)):
            place = f"{at}[{i}]"
            if len(items(run, place, 2)) != 2:
                raise malformed(place, "a count and slices", run)
            count = whole(run[0], f"{place}[0]", most=MOST_CELLS)
            slices = items(run[1], f"{place}[1]", MOST_CELLS)
            self._slices += count * len(slices)
            if self._slices > MOST_CELLS:
                raise Malformed(f"{place} has slice {self._slices:,}; {MOST_CELLS:,} are the most")
            for piece in slices:
                _check_slice(piece, place, count)


def _check_slice(value: object, at: str, count: int) -> None:
    if len(items(value, at, 4)) != 4:
        raise malformed(at, "slices of (parameter, axis, start, width)", value)
    parameter, axis, start, width = value  # pyright: ignore[reportGeneralTypeIssues]
    text(parameter, at)
    whole(axis, f"the axis in {at}", most=63)
    whole(start, f"the start in {at}", most=MOST_PLACE)
    whole(width, f"the width in {at}", least=1, most=MOST_PLACE)
    whole(start + count * width, f"the end in {at}", most=MOST_PLACE)


def _check_indices(value: object, at: str) -> None:
    for index in items(value, at, MOST_CELLS):
        whole(index, at, most=MOST_GROUPS)


def _check_plan(value: object) -> None:
    plan = members(value, "plan")
    members(_of(plan, "hp"), "plan.hp")
    whole(_of(plan, "start"), "plan.start")
    for name in PLANNED:
        steps = 0
        for pair in items(_of(plan, name), f"plan.{name}", MOST_STEPS):
            if len(items(pair, f"plan.{name}", 2)) != 2:
                raise malformed(f"plan.{name}", "pairs of a count and a value", pair)
            steps += whole(pair[0], f"a count in plan.{name}", least=1, most=MOST_STEPS)
            if number(pair[1], f"a value in plan.{name}") < 0 or not math.isfinite(pair[1]):
                raise malformed(f"a value in plan.{name}", "a number >= 0", pair[1])
            if steps > MOST_STEPS:
                raise Malformed(f"plan.{name} has more than {MOST_STEPS:,} steps")
