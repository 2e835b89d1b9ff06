"""Settings at every step, from the sampled steps and the events between them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records.dense import latest
from spherical_motion.records.events import Event
from spherical_motion.records.schema import RunInfo
from spherical_motion.vocabulary import EventKind


def lasting_changes(events: Iterable[Event]) -> tuple[Event, ...]:
    """The "rate_changed" events, without those that resuming from an earlier step undid."""
    lasting: list[Event] = []
    for event in events:
        if event["kind"] == EventKind.RATE_CHANGED:
            lasting.append(event)
        elif event["kind"] == EventKind.RESUMED and event.get("step") is not None:
            lasting = [e for e in lasting if (e.get("step") or 0) < event["step"]]
    return tuple(lasting)


def changes_of(
    name: str, changes: Iterable[Event], info: RunInfo, param_group: int
) -> list[tuple[int, float]]:
    """(step, new value) of a setting from the changes of one param group."""
    own = (event for event in changes if info.param_group_of(event) == param_group)
    found = ((event.get("step"), event.get(name)) for event in own)
    return [(step, value) for step, value in found if step is not None and value is not None]


def held_values(
    sampled: NDArray[np.int64], values: NDArray[np.float64], changes: Iterable[tuple[int, float]]
) -> NDArray[np.float64]:
    """A setting at each step from the first sampled one to the last; each value holds on."""
    first, last = sampled[0], sampled[-1]
    between = [(step, value) for step, value in changes if first < step <= last]
    # `latest` takes the last value of a step, which is the sampled one if there is one.
    steps = np.concatenate([[step for step, _ in between], sampled]).astype(np.int64)
    found = np.concatenate([[value for _, value in between], values])
    chosen = latest(steps)
    return np.repeat(found[chosen], np.diff(steps[chosen], append=last + 1))
