"""A module that holds a monitor can be copied and saved; the copy holds a closed one."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, groups_of, network, train

from spherical_motion.monitor import Monitor
from spherical_motion.records import read


def saved(model: nn.Module, place: Path) -> nn.Module:
    torch.save(model, place / "model.pt")
    return torch.load(place / "model.pt", weights_only=False)


COPIES = {
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "save": saved,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("audit", [False, True])
def test_the_copy_of_a_module_holds_a_closed_monitor(tmp_path: Path, how: str, audit: bool) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    monitor = Monitor(model, optimizer, groups_of(model), tmp_path / "run", audit=audit, quiet=True)
    model.monitor = monitor
    train(model, optimizer, 2)
    twin = COPIES[how](model, tmp_path)
    # The copy trains, and what it calls of its monitor does nothing.
    other = OPTIMIZERS["momentum"](twin)
    train(twin, other, 3)
    twin.monitor.log(loss=1.0)
    twin.monitor.event("note")
    twin.monitor.flush()
    assert not twin.monitor.is_stored
    assert twin.monitor.step == 2
    assert "closed" in repr(twin.monitor)
    assert twin.monitor.directory == tmp_path / "run"
    with twin.monitor:
        pass
    train(model, optimizer, 1)
    monitor.close()
    assert monitor.is_stored
    records = read(tmp_path / "run")
    assert records.steps.tolist() == [0, 1, 2]
    assert [event["kind"] for event in records.events] == ["closed"]
    assert "loss" not in records.scalars
