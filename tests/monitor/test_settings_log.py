"""Settings are looked at in one go where nothing changes, and every change is still recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from spherical_motion.monitor.settings_log import SettingsLog


class Kept:
    """A sink that writes down what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, tuple]] = []
        self.events: list[tuple[str, dict]] = []

    def settings(self, step: int, place: int, values: tuple) -> None:
        self.rows.append((step, place, values))

    def event(self, kind: str, /, step: int | None = None, **data: object) -> None:
        self.events.append((kind, data))


def two_groups(**given: Any) -> torch.optim.Optimizer:
    weights = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    return torch.optim.AdamW([{"params": [w]} for w in weights], lr=0.1, **given)


def changed(
    optimizer: torch.optim.Optimizer, change: Callable[[dict[str, Any]], object]
) -> tuple[Kept, SettingsLog, object]:
    """Ten steps without a change, one of the second group, and one more step."""
    sink = Kept()
    log = SettingsLog(optimizer, 0, (0, 1), sink)  # pyright: ignore[reportArgumentType]
    for step in range(10):
        log.follow(step)
    assert [row[:2] for row in sink.rows] == [(0, 0), (0, 1)]
    before = log.now
    change(optimizer.param_groups[1])
    for step in (10, 11):
        log.follow(step)
    return sink, log, before


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group.update(lr=0.2),
        lambda group: group.update(weight_decay=0.0),
        lambda group: group.update(betas=(0.8, 0.999)),
        lambda group: group.pop("weight_decay"),
        lambda group: group.update(momentum=0.5, betas=None),
    ],
)
def test_a_change_of_any_kind_is_recorded_once(change: Callable) -> None:
    sink, log, before = changed(two_groups(), change)
    assert [row[:2] for row in sink.rows[2:]] == [(10, 1)]
    assert log.now is not before


def test_settings_that_change_within_themselves_are_read_each_time() -> None:
    rate = torch.tensor(0.1)
    sink, *_ = changed(two_groups(capturable=False), lambda group: group.update(lr=rate))
    optimizer = two_groups()
    optimizer.param_groups[1].update(lr=rate, betas=[0.9, 0.99])
    sink, *_ = changed(optimizer, lambda _: rate.mul_(0.5))
    assert sink.rows[-1][:2] == (10, 1)
    assert sink.rows[-1][2][0] == pytest.approx(0.05)
    sink, *_ = changed(optimizer, lambda group: group["betas"].__setitem__(0, 0.5))
    assert sink.rows[-1][2][2] == 0.5


def test_fixed_settings_that_change_or_come_are_events() -> None:
    sink, log, _ = changed(two_groups(), lambda group: group.update(maximize=True))
    assert [kind for kind, _ in sink.events] == ["settings_changed"]
    assert log.maximize == [False, True]
    sink, *_ = changed(two_groups(), lambda group: group.update(nesterov=True))
    assert sink.events[0][1]["changed"] == {"nesterov": True}


def test_a_group_that_is_added_is_left_out_and_the_others_go_on() -> None:
    optimizer = two_groups()
    added = torch.zeros(1, requires_grad=True)
    sink, *_ = changed(optimizer, lambda _: optimizer.add_param_group({"params": [added]}))
    assert len(sink.rows) == 2
    sink, *_ = changed(optimizer, lambda group: group.update(lr=0.3))
    assert sink.rows[-1][:2] == (10, 1)


def test_what_did_not_change_is_the_same_object() -> None:
    optimizer = two_groups()
    log = SettingsLog(optimizer, 0, (0, 1), Kept())  # pyright: ignore[reportArgumentType]
    log.follow(0)
    before = log.now
    log.follow(1)
    assert log.now is before
