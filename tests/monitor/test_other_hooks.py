"""Hooks of others may raise and stand anywhere: each step counts once, and none is harmed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizers
from watched import OPTIMIZERS, batch, groups_of, loss_of, network

from spherical_motion.errors import RecordingStopped
from spherical_motion.monitor import Monitor
from spherical_motion.records import read


class Interrupted(Exception):
    """What the hooks of others raise here."""


def raising_at(steps: set[int]) -> Callable[..., None]:
    """A hook that raises when it is called for the n-th time, n among `steps`."""
    calls = iter(range(10**6))

    def hook(*_: object) -> None:
        if next(calls) in steps:
            raise Interrupted

    return hook


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[torch.Tensor]:
    """The first weight before and after each step, whatever the hooks raise."""
    kept = [model[0].weight.detach().clone()]
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        with contextlib.suppress(Interrupted):
            optimizer.step()
        kept.append(model[0].weight.detach().clone())
    return kept


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "fused"])
@pytest.mark.parametrize("products", [6, 8])
def test_a_step_hidden_by_a_hook_that_raises_leaves_a_gap(
    tmp_path: Path, name: str, products: int
) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model)
    hidden = {3, 4, 7, 19}
    optimizer.register_step_post_hook(raising_at(hidden))
    groups = groups_of(model)
    with Monitor(model, optimizer, groups, tmp_path / "run", products=products, quiet=True) as m:
        weights = trained(model, optimizer, 20)
        assert m.step in (19, 20)  # the last is counted when the next one begins
    records = read(tmp_path / "run")
    seen = [step for step in range(20) if step not in hidden]
    assert records.steps.tolist() == seen
    # Each row stands at the number of its own step.
    expected = [float(weights[step].double().square().sum()) for step in seen]
    np.testing.assert_allclose(records.gram.ww[:, records.index("0")], expected, rtol=1e-12)
    events = [event for event in records.events if event["kind"] == "not_measured"]
    assert [event["step"] for event in events] == [3]
    assert "another hook" in events[0]["why"]
    assert not [event for event in records.events if event["kind"] in ("stopped", "audit_ended")]


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "fused"])
def test_a_step_hidden_by_a_hook_put_in_front_later_leaves_a_gap(tmp_path: Path, name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model)
    groups, hidden = groups_of(model), {0, 3, 4}
    with Monitor(model, optimizer, groups, tmp_path / "run", quiet=True) as monitor:
        handle = optimizer.register_step_post_hook(raising_at(hidden))
        handle.hooks_dict_ref().move_to_end(handle.id, last=False)
        weights = trained(model, optimizer, 8)
        assert monitor.step == 8
    records = read(tmp_path / "run")
    seen = [step for step in range(8) if step not in hidden]
    assert records.steps.tolist() == seen
    expected = [float(weights[step].double().square().sum()) for step in seen]
    np.testing.assert_allclose(records.gram.ww[:, records.index("0")], expected, rtol=1e-12)
    events = [event for event in records.events if event["kind"] == "not_measured"]
    assert [event["step"] for event in events] == [0]


@pytest.mark.parametrize("name", ["momentum", "adam", "fused"])
def test_weights_that_are_written_after_a_step_that_failed_make_no_gap(
    tmp_path: Path, name: str
) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        optimizer.register_step_pre_hook(raising_at({3}))
        for _ in range(6):
            trained(model, optimizer, 1)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.0)
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1, 2, 3, 4]
    assert "not_measured" not in [event["kind"] for event in records.events]


def test_what_the_audit_and_the_settings_say_goes_on_after_a_gap(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model)
    optimizer.register_step_post_hook(raising_at({2}))
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        trained(model, optimizer, 6)
    records = read(tmp_path / "run")
    assert sorted(set(records.audits.step.tolist())) == [0, 1, 3, 4, 5]
    assert records.audit_steps.counter.tolist() == [1, 2, 4, 5, 6]


def test_a_step_that_was_not_taken_does_not_count(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    optimizer.register_step_pre_hook(raising_at({1, 2}))
    groups = groups_of(model)
    with Monitor(model, optimizer, groups, tmp_path / "run", quiet=True):
        optimizer.register_step_pre_hook(raising_at({3}))
        trained(model, optimizer, 8)

        def closure() -> float:
            raise Interrupted

        with pytest.raises(Interrupted):
            optimizer.step(closure)
        trained(model, optimizer, 1)
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert "not_measured" not in [event["kind"] for event in records.events]


def test_a_hook_around_an_inherited_step_hides_no_step(tmp_path: Path) -> None:
    class Logged(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)  # torch wraps its step
    model = network()
    optimizer = Logged(model.parameters(), lr=0.1)
    # It is called for the inner step and for the outer one: this raises in the inner step of 2.
    optimizer.register_step_post_hook(raising_at({4}))
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        trained(model, optimizer, 5)
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("when", ["pre", "post"])
def test_stopping_within_a_step_disturbs_no_hook_that_comes_later(
    tmp_path: Path, when: str
) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    calls: list[str] = []
    optimizer.register_step_post_hook(lambda *_: model.double() if when == "post" else None)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    removes = [
        optimizer.register_step_pre_hook(lambda *_: calls.append("pre")),
        optimizer.register_step_post_hook(lambda *_: calls.append("post")),
        torch_optimizers.register_optimizer_step_pre_hook(lambda *_: calls.append("all pre")),
        torch_optimizers.register_optimizer_step_post_hook(lambda *_: calls.append("all post")),
    ]
    if when == "pre":
        model.double()
    x, y = batch(0)
    model.float() if when == "post" else None
    dtype = next(model.parameters()).dtype
    nn.functional.cross_entropy(model(x.to(dtype)), y).backward()
    try:
        with pytest.warns(RecordingStopped):
            optimizer.step()
        assert sorted(calls) == ["all post", "all pre", "post", "pre"]
        optimizer.step()
        assert len(calls) == 8
    finally:
        for handle in removes:
            handle.remove()
    monitor.close()
    assert len(optimizer._optimizer_step_post_hooks) == 1


def test_a_hook_of_the_loop_may_close_the_monitor(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor: list[Monitor] = []
    optimizer.register_step_post_hook(lambda *_: monitor[0].close() if monitor else None)
    monitor.append(Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True))
    optimizer.register_step_post_hook(lambda *_: None)
    trained(model, optimizer, 3)
    assert read(tmp_path / "run").events[-1]["kind"] == "closed"


def test_a_hook_may_return_what_flush_and_close_return(tmp_path: Path) -> None:
    """torch takes what a pre hook returns for new arguments of the step."""
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    assert not monitor.is_stored
    optimizer.register_step_pre_hook(lambda *_: monitor.flush())
    trained(model, optimizer, 3)
    assert monitor.is_stored
    optimizer.register_step_pre_hook(lambda *_: monitor.close())
    trained(model, optimizer, 2)
    assert monitor.is_stored
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2]
