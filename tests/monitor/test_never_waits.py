"""No step waits for the disk, and nothing that tells raises into a step."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, batch, groups_of, network, train

from spherical_motion.errors import RecordingStopped
from spherical_motion.monitor import Monitor
from spherical_motion.records import read

SOON = 5.0


def fail(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A step at which the monitor fails: the weights have another dtype."""
    model.double()
    x, y = batch(0)
    nn.functional.cross_entropy(model(x.double()), y).backward()
    optimizer.step()


def test_a_hook_that_fails_does_not_wait_for_the_writer(tmp_path: Path, monkeypatch) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True)
    train(model, optimizer, 2)
    freed, sync = threading.Event(), os.fsync

    def stuck(handle: int) -> None:
        assert freed.wait(60)
        sync(handle)

    monkeypatch.setattr(os, "fsync", stuck)
    began = time.monotonic()
    with pytest.warns(
        RecordingStopped, match=r"at step 2 has stopped: .*again\. Training goes on\. What"
    ):
        fail(model, optimizer)
    monitor.log(loss=1.0)
    monitor.event("note")
    assert time.monotonic() - began < SOON
    freed.set()
    monitor.close()
    assert monitor.is_stored
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1]
    assert [event["kind"] for event in records.events] == ["stopped", "closed"]


def test_close_of_a_monitor_waits_no_longer_than_its_patience(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    groups = groups_of(model)
    monitor = Monitor(model, optimizer, groups, tmp_path / "run", patience=0.2, quiet=True)
    train(model, optimizer, 2)
    freed = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: freed.wait(60))
    began = time.monotonic()
    monitor.flush()
    assert not monitor.is_stored
    monitor.close()
    assert not monitor.is_stored
    assert time.monotonic() - began < SOON
    assert "not stored: 2 steps (0 to 1)" in caplog.text
    freed.set()
    monitor.close()
    assert monitor.is_stored


@pytest.mark.parametrize("broken", ["handler", "stderr", "closed stderr"])
def test_a_monitor_that_fails_tells_nobody_rather_than_raise(
    tmp_path: Path, monkeypatch, broken: str
) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("this handler always fails")

    handler = Raising()
    logging.getLogger("spherical_motion").addHandler(handler)
    if broken != "handler":
        stream = io.StringIO()
        stream.close()
        monkeypatch.setattr(sys, "stderr", stream if broken == "closed stderr" else object())
    try:
        model = network()
        optimizer = OPTIMIZERS["momentum"](model)
        monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run")
        train(model, optimizer, 2)
        monitor.log(text="high")
        fail(model, optimizer)  # warnings are errors here
        optimizer.step()
        monitor.close()
        assert monitor.is_stored
    finally:
        logging.getLogger("spherical_motion").removeHandler(handler)
    assert read(tmp_path / "run").steps.tolist() == [0, 1]


@pytest.mark.slow
def test_a_program_without_streams_trains_on(tmp_path: Path) -> None:
    code = """
import os, sys, warnings
import torch
from torch import nn
from spherical_motion.monitor import watch
for stream in (sys.stdout, sys.stderr):
    stream.close()
os.close(1), os.close(2)
warnings.simplefilter("always")
model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = watch(model, optimizer, directory=sys.argv[1], groups="plain")
for step in range(6):
    if step == 3:
        model.double()
    model(torch.randn(4, 4, dtype=next(model.parameters()).dtype)).sum().backward()
    optimizer.step()
    monitor.log(text="high")
monitor.close()
open(sys.argv[2], "w").write("trained on")
"""
    done = tmp_path / "done"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "run", done], timeout=120)
    assert (ran.returncode, done.read_text()) == (0, "trained on")
    assert read(tmp_path / "run").steps.tolist() == [0, 1, 2]


def test_what_could_not_be_recorded_is_said_once_at_the_end(tmp_path: Path, caplog) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run")
    for _ in range(3):
        train(model, optimizer, 1)
        monitor.log(text="high", many=torch.zeros(2), loss=0.5)
        monitor.event("odd", data="\ud800")
    assert caplog.messages == []
    monitor.close()
    monitor.close()
    (told,) = caplog.messages
    assert "not all values of these were recorded" in told
    assert "'text' (str is not a number" in told
    assert "'many' (Tensor is not a number: InvalidArgument: it has 2 entries)" in told
    assert "'odd'" in told
    records = read(tmp_path / "run")
    assert [event["kind"] for event in records.events] == ["skipped"] * 3 + ["closed"]
    assert len(records.scalars["loss"].values) == 3


def test_a_buffer_that_the_loop_reuses_is_recorded_as_it_was(tmp_path: Path) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    loss, nested = torch.zeros(()), {"losses": [0.0]}
    with Monitor(model, optimizer, groups_of(model), tmp_path / "run", quiet=True) as monitor:
        for step in range(5):
            train(model, optimizer, 1)
            loss.fill_(step)
            nested["losses"][0] = float(step)
            monitor.log(loss=loss, array=loss.numpy())
            monitor.event("epoch", data=nested)
    records = read(tmp_path / "run")
    for name in ("loss", "array"):
        assert records.scalars[name].values.tolist() == [0, 1, 2, 3, 4]
    epochs = [event for event in records.events if event["kind"] == "epoch"]
    assert [event["data"]["losses"] for event in epochs] == [[0], [1], [2], [3], [4]]
