"""On a device, reading a number back stalls the host: a step must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contracts.optimizer_table import filters, layers, small_net
from torch.utils._python_dispatch import TorchDispatchMode

from spherical_motion.optim import AdaGradG, AdamG, bind

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
