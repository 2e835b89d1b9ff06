"""Training is what it would have been without a monitor, whatever fails."""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, batch, groups_of, network, train

from spherical_motion.errors import (
    RecordingStopped,
)
from spherical_motion.monitor import Monitor, watch
from spherical_motion.records import read


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("every", [1, 3])
def test_weights_are_bit_identical_with_and_without(name: str, every: int, tmp_path: Path) -> None:
    plain = network()
    train(plain, OPTIMIZERS[name](plain), 7)
    watched = network()
    optimizer = OPTIMIZERS[name](watched)
    with watch(watched, optimizer, batch(0)[0], tmp_path / "run", every=every, quiet=True):
        # Finding the groups has drawn no random numbers either: dropout repeats.
        train(watched, optimizer, 7)
    for a, b in zip(plain.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_hooks_are_gone_after_closing(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    monitor.close()
    monitor.close()
    train(model, optimizer, 2)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert read(tmp_path / "run").steps.tolist() == [0, 1]
    assert "closed" in repr(monitor)


def test_a_watched_optimizer_can_still_be_copied_and_saved(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True):
        train(model, optimizer, 1)
        twin = copy.deepcopy(optimizer)
        torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    assert not twin._optimizer_step_pre_hooks


def test_no_monitor_failure_reaches_the_loop_and_one_warning_tells(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    model.double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            x, y = batch(step)
            nn.functional.cross_entropy(model(x.double()), y).backward()
            optimizer.step()
    assert [w.category for w in caught] == [RecordingStopped]
    assert "Training goes on" in str(caught[0].message)
    monitor.close()  # the failing step did not wait for the disk
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1]
    assert "stopped" in [event["kind"] for event in records.events]


def test_even_warnings_as_errors_do_not_stop_training(tmp_path: Path, capfd) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    model.double()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, y = batch(0)
        nn.functional.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
    assert "has stopped: " in capfd.readouterr().err


def test_a_full_disk_stops_recording_and_not_training(tmp_path: Path, monkeypatch) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 3)
    monitor.flush()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    train(model, optimizer, 3)
    with pytest.warns(RecordingStopped, match="No space left"):
        monitor.flush()
    train(model, optimizer, 3)
    monitor.close()
    monkeypatch.undo()
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2]


def test_a_forked_process_records_nothing(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork: the very point
        child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        monitor.log(loss=1.0)
        monitor.close()
        os._exit(0 if optimizer._optimizer_step_pre_hooks else 1)
    assert os.waitpid(child, 0)[1] == 0
    train(model, optimizer, 1)
    monitor.close()
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2]
