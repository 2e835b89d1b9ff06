"""On a device, reading a number back stalls the host: a step must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.optimizer_table import filters, layers, small_net
from optim.steered import Loose
from torch.utils._python_dispatch import TorchDispatchMode

from spherical_motion.optim import AdaGradG, AdamG, RescaleOnDecay, Rotational, bind
from spherical_motion.optim import rotational as rotational_module
from spherical_motion.vocabulary import InvariantGroup, Slice

READS_BACK = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "_to_copy_to_cpu")


class Recorder(TorchDispatchMode):
    """Notes every operation that returns a number to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.split(".")[0] in READS_BACK:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_the_recorder_sees_a_read() -> None:
    with Recorder() as recorder:
        float(torch.ones(1))
    assert recorder.found


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("kind", [AdaGradG, AdamG, "from_sgd"])
@pytest.mark.parametrize("foreach", [True, False])
def test_a_step_reads_nothing_back(kind: Any, whole: bool, foreach: bool) -> None:
    model = small_net()
    groups = layers(filters(model)) if whole else filters(model)
    if kind == "from_sgd":
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
        optimizer = AdaGradG.from_sgd(model, groups, sgd, foreach=foreach)
    else:
        optimizer = kind(model, groups, foreach=foreach)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with Recorder() as recorder:
        optimizer.step()
        optimizer.step()
    assert not recorder.found


def test_measuring_and_scaling_groups_reads_nothing_back() -> None:
    members = bind(model := small_net(), filters(model))
    with Recorder() as recorder:
        members.scale_(1.0 / members.norms())
    assert not recorder.found


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rotated_steps_read_nothing_back(momentum: float, monkeypatch: Any) -> None:
    # On a device there is no compiled loop.
    monkeypatch.setattr(rotational_module.CpuRotation, "fits", lambda members: False)
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum, weight_decay=0.1)
    with Rotational(model, optimizer, filters(model)), Recorder() as recorder:
        for lr in (0.1, 0.1, 0.01):
            optimizer.param_groups[0]["lr"] = lr
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    assert not recorder.found


@pytest.mark.parametrize("defect", [0.0, 0.009])
def test_steps_with_rescalings_read_nothing_back(defect: float) -> None:
    model = Loose(4, 5)
    rows = [Slice("weight", 0, r, r + 1) for r in range(4)]
    groups = [InvariantGroup(str(s), "scale", (s,), (), 5, defect) for s in rows]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    events: list[str] = []
    with (
        RescaleOnDecay(model, optimizer, groups, on_event=lambda kind, **data: events.append(kind)),
        Recorder() as recorder,
    ):
        for lr in (0.1, 0.1, 0.001):
            optimizer.param_groups[0]["lr"] = lr
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    assert events == ["rescaling_limited" if defect else "rescaled"]
    assert not recorder.found
