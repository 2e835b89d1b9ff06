"""The code still gives the values that were recorded of it."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from frozen.rooms import ROOMS, difference, now, stored

EXACT = os.environ.get("SMD_FROZEN_EXACT") == "1"

PUBLIC = {
    "theory": "spherical_motion.theory",
    "sphere": "spherical_motion.sphere",
    "simulate": "spherical_motion.simulate",
    "forecasting": "spherical_motion.forecasting",
    "steering": "spherical_motion.optim",
}
"""Modules of which every public name must have a value in the room."""

RESULTS = {
    "theory": {
        "AngleBound",
        "AssumptionCheck",
        "Balance",
        "BalanceLaw",
        "BalanceSteps",
        "DecayedSchedule",
        "DriveStatistics",
        "ExponentialRates",
        "ExponentialSchedule",
        "Family",
        "GroupFacts",
        "ImageStep",
        "RecentredSchedule",
        "UpdateRule",
        "register",
    },
    "simulate": {"NormRun", "RandomWalk", "ToyRun", "WellRun"},
    "forecasting": {
        "BatchScaling",
        "Forecast",
        "Outcome",
        "Remedy",
        "Setting",
        "StageForecast",
    },
    "steering": {"EquilibriumStart"},
}
"""Types without keys of their own: what functions return, or are told."""


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_has_changed(room: str) -> None:
    old, new = stored(room), now(room)
    moved = [k for k in old if k in new and difference(k, old[k], new[k], EXACT)]
    lost, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    if moved or lost or added:
        pytest.fail(report(room, old, new, moved, lost, added), pytrace=False)


@pytest.mark.parametrize("room", PUBLIC)
def test_every_public_name_has_a_value(room: str) -> None:
    names = set(importlib.import_module(PUBLIC[room]).__all__) - RESULTS.get(room, set())
    assert names - {key.split("/")[0] for key in stored(room)} == set()


def test_a_change_is_seen() -> None:
    array = {"shape": [2], "values": [1.0, 1e-3]}
    assert not difference("k", array, {"shape": [2], "values": [1.0 + 1e-14, 1e-3]})
    assert difference("k", array, {"shape": [2], "values": [1.0, 1e-3 + 1e-14]})
    assert difference("k", array, {"shape": [1, 2], "values": [1.0, 1e-3]})
    assert difference("k", 1.0, 1.0 + 1e-15, exact=True)
    assert not difference("k", float("nan"), float("nan"), exact=True)
    assert difference("k", float("nan"), 1.0)
    assert difference("k", 3, 4)
    assert difference("k", "raises OutOfDomain", "raises NoTheory")
    assert difference("k", ["sgd", 0.1], ["adam", 0.1])


def report(
    room: str,
    old: dict[str, Any],
    new: dict[str, Any],
    moved: list[str],
    lost: list[str],
    added: list[str],
) -> str:
    """What differs, the first ten of each sort, and how to record anew what was meant."""
    lines = [
        f"{room}: of {len(old)} recorded keys {len(moved)} differ and {len(lost)} are missing; "
        f"{len(added)} are new."
    ]
    for key in moved[:10]:
        lines += [f"  {key}", f"    old {old[key]}", f"    new {new[key]}"]
    lines += [f"  missing: {key}" for key in lost[:10]]
    lines += [f"  new: {key}" for key in added[:10]]
    lines.append(f"If this was meant: cd tests && python -m frozen.record {room}")
    return "\n".join(lines)
