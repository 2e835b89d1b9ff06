"""The rooms whose behaviour is frozen, and their values as files of one line a key."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

__all__ = ["ROOMS", "difference", "now", "path_of", "stored", "write"]

ROOMS = {
    "theory": ("theory_values", "schedule_values", "balance_values"),
    "sphere": ("sphere_values",),
    "simulate": ("simulate_values",),
    "forecasting": ("forecasting_values",),
    "invariance": ("invariance_values",),
    "records": ("records_values",),
    "steering": ("steering_values",),
}
"""The modules that yield the values of each room."""

RELATIVE = 1e-12
"""By what share a number may move."""

FLOORS = {
    "defect": 1e-14,  # <w, g> of an invariant group is rounding, or a small share of ε
    "/wg/": 1e-14,  # the same, not divided
    "numbers.residual": 1e-13,  # of the law of motion: rounding over the learning rate
    "undo_exponential_schedule": 1e-15,  # λ_t is a difference, and 0 where nothing decays
}
"""By how much a number may move besides, by a part of its key: what cancels."""

SUMMED = ("/weights", "/buffers", "/state")
"""Ends of keys of sums over tensors: one may be nearly nothing beside the norms in its list."""


def now(room: str) -> dict[str, Any]:
    """The values of a room as the code gives them now, by key."""
    benchmarks = str(Path(__file__).parents[2] / "benchmarks")
    if benchmarks not in sys.path:
        sys.path.append(benchmarks)
    found: dict[str, Any] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in ROOMS[room]:  # imported late: a room needs no more than its own
                for key, value in importlib.import_module(f"frozen.{module}").values():
                    if key in found:
                        raise KeyError(f"{room}: two values are called {key!r}.")
                    found[key] = value
    finally:
        torch.set_num_threads(threads)
    return found


def path_of(room: str) -> Path:
    """Where the values of a room are kept."""
    return Path(__file__).parent / "values" / f"{room}.txt"


def write(room: str, values: dict[str, Any]) -> None:
    """Store the values of a room: sorted, a key and its value on each line."""
    lines = [f"{key}\t{json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
    path_of(room).parent.mkdir(exist_ok=True)
    path_of(room).write_text("".join(sorted(lines)), encoding="utf-8")


def stored(room: str) -> dict[str, Any]:
    """The values of a room as they were recorded, by key."""
    lines = path_of(room).read_text(encoding="utf-8").splitlines()
    return {key: json.loads(value) for key, value in (line.split("\t") for line in lines)}


def difference(key: str, old: Any, new: Any, exact: bool = False) -> bool:
    """Whether a value differs from the recorded one by more than it may."""
    old, new = _plain(old), _plain(new)
    if exact or old == new:
        return old != new
    before, after = _numbers(old), _numbers(new)
    if before is None or after is None or len(before) != len(after) or _form(old) != _form(new):
        return True
    sizes = [abs(x) for x in before if x == x and abs(x) < float("inf")]
    largest = max(sizes, default=0.0) if key.endswith(SUMMED) else 0.0
    floor = next((floor for part, floor in FLOORS.items() if part in key), 0.0)
    floor = max(floor, RELATIVE * largest)
    return any(_apart(a, b, floor) for a, b in zip(before, after, strict=True))


def _apart(old: float, new: float, floor: float) -> bool:
    if old == new or (old != old and new != new):
        return False
    return not abs(old - new) <= max(RELATIVE * abs(old), floor)


def _plain(value: Any) -> Any:
    """A value as it would come back from its file, NaN as a word so that it equals itself."""
    return json.loads(json.dumps(value), parse_constant=str)


def _form(value: Any) -> Any:
    """What of a value is no floating-point number, and must not change at all."""
    if isinstance(value, dict):
        return value["shape"]
    return [None if isinstance(x, float) else x for x in _listed(value)]


def _numbers(value: Any) -> list[float] | None:
    """The floating-point numbers of a value; None if it has none."""
    entries = value["values"] if isinstance(value, dict) else _listed(value)
    numbers = [float(x) for x in _flat(entries) if isinstance(x, float)]
    return numbers or None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flat(entries: list[Any]) -> list[Any]:
    return [y for x in entries for y in (_flat(x) if isinstance(x, list) else [x])]
