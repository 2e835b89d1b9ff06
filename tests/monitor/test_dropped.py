"""A monitor that nobody keeps goes on while its optimizer lives, and ends with it."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizers
from watched import OPTIMIZERS, batch, groups_of, loss_of, network, train

from spherical_motion.monitor import Monitor, watch
from spherical_motion.monitor.run.hooks import sweep
from spherical_motion.records import RunWriter, read, read_info

SOON = 30.0


def wait_for_the_writer(directory: Path) -> None:
    """Resume the run, which its writer must have released by itself."""
    for thread in [t for t in threading.enumerate() if t.name == "run writer"]:
        thread.join(SOON)
    RunWriter(directory, read_info(directory), resume=True).close()


def test_watching_without_keeping_the_monitor_goes_on(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    watch(model, optimizer, batch(0)[0], tmp_path / "run", quiet=True)
    train(model, optimizer, 3)
    gc.collect()
    train(model, optimizer, 2)
    del optimizer
    gc.collect()
    wait_for_the_writer(tmp_path / "run")
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1, 2, 3, 4]
    closed = [event for event in records.events if event["kind"] == "closed"]
    assert [(event["step"], event["steps"]) for event in closed] == [(5, [5])]


def test_it_goes_on_after_the_name_of_the_monitor_is_gone(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model)
    monitor = watch(model, optimizer, batch(0)[0], tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    del monitor
    gc.collect()
    train(model, optimizer, 2)
    del optimizer
    gc.collect()
    wait_for_the_writer(tmp_path / "run")
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2, 3]


def test_nothing_of_it_is_left_behind(tmp_path: Path) -> None:
    model = network()
    hooks = (
        torch_optimizers._global_optimizer_pre_hooks,
        torch_optimizers._global_optimizer_post_hooks,
    )
    gc.collect()
    sweep()  # what other tests have left
    before = [len(each) for each in hooks]
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    for turn in range(3):
        optimizer = OPTIMIZERS["momentum"](model)
        monitor = watch(
            model, optimizer, batch(0)[0], tmp_path / str(turn), quiet=True, correlation_every=500
        )
        recording = monitor._recording
        for each in (monitor, recording, *recording.stations, optimizer):
            alive.add(each)
        train(model, optimizer, 2)
        del each, monitor, recording, optimizer
    gc.collect()
    assert list(alive) == []
    # The collector may come within a step or a forward pass, so nothing is taken off at once.
    loss_of(model, 0).backward()
    sweep()
    assert [len(each) for each in hooks] == before
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    for turn in range(3):
        wait_for_the_writer(tmp_path / str(turn))
        assert read(tmp_path / str(turn)).steps.tolist() == [0, 1]


@pytest.mark.parametrize("where", ["forward", "step", "hook"])
def test_the_collector_may_come_at_any_moment(tmp_path: Path, where: str) -> None:
    """A finalizer that took hooks off there would raise into the loop, or confuse torch."""

    def collect(*_: object) -> None:
        gc.collect()

    plain = network()
    train(plain, OPTIMIZERS["momentum"](plain), 2)
    train(plain, OPTIMIZERS["momentum"](plain), 3)
    model = network()
    first = OPTIMIZERS["momentum"](model)
    watch(model, first, batch(0)[0], tmp_path / "run", quiet=True)  # armed between steps
    train(model, first, 2)
    gc.collect()
    gc.disable()
    try:
        del first
        second = OPTIMIZERS["momentum"](model)
        handles = [
            model[1].register_forward_hook(collect)
            if where == "forward"
            else second.register_step_post_hook(collect)
            if where == "step"
            else model[1].register_forward_pre_hook(collect)
        ]
        seen: list[int] = []
        handles.append(model[1].register_forward_hook(lambda *_: seen.append(0)))
        handles.append(second.register_step_post_hook(lambda *_: seen.append(1)))
        train(model, second, 3)
        assert seen == [0, 1] * 3
    finally:
        gc.enable()
        for handle in handles:
            handle.remove()
    for a, b in zip(plain.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    sweep()
    for module in model.modules():
        assert not module._forward_hooks
    assert not torch.overrides._get_current_function_mode_stack()
    wait_for_the_writer(tmp_path / "run")
    assert read(tmp_path / "run").steps.tolist() == [0, 1]


def test_a_scheduler_and_a_second_optimizer_do_not_keep_it(tmp_path: Path) -> None:
    model = network()
    both = [
        torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9),
        torch.optim.SGD(model[3].parameters(), lr=0.1, momentum=0.9),
    ]
    schedules = [torch.optim.lr_scheduler.StepLR(each, 2) for each in both]
    Monitor(model, both, groups_of(model), tmp_path / "run", quiet=True)
    for step in range(3):
        loss_of(model, step).backward()
        for each in (*both, *schedules):
            each.step()
    del each, both[1], schedules[1]
    gc.collect()
    loss_of(model, 3).backward()
    both[0].step()
    del both, schedules
    gc.collect()
    wait_for_the_writer(tmp_path / "run")
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2, 3]


def test_a_failed_monitor_gives_its_memory_back(tmp_path: Path, recwarn) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    station = weakref.ref(monitor._stations[0])
    model.double()
    x, y = batch(0)
    nn.functional.cross_entropy(model(x.double()), y).backward()
    optimizer.step()
    assert len(recwarn) == 1
    gc.collect()
    assert station() is None
    monitor.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
