"""Weights whose storage was freed end recording with a word, and not the process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.errors import InvalidArgument, RecordingStopped
from spherical_motion.measure import CpuGram
from spherical_motion.measure.layout import lacks_memory
from spherical_motion.monitor import watch
from spherical_motion.records import read


def release(weight: torch.Tensor) -> None:
    weight.data.untyped_storage().resize_(0)


@pytest.mark.parametrize("when", ["before the step", "in a hook after the step"])
@pytest.mark.parametrize("audit", [True, False])
def test_a_freed_weight_stops_recording_with_a_word(tmp_path, when: str, audit: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    weight = model[1].weight
    freed: list[bool] = []

    def after(*_: object) -> None:
        if freed:
            release(weight)

    optimizer.register_step_post_hook(after)
    directory = tmp_path / "run"
    monitor = watch(model, optimizer, directory=directory, groups="plain", audit=audit, quiet=True)

    def step(number: int) -> None:
        model[0](torch.randn(4, 8)).square().sum().backward()
        # An optimizer passes by what has no gradient, as it must where there is no memory.
        weight.grad = torch.ones(4, 8) if number < 2 else None
        optimizer.step()
        monitor.log(loss=1.0)
        monitor.log(loss=2.0)

    step(0)
    step(1)
    freed.append(True)
    if when == "before the step":
        release(weight)
    with pytest.warns(RecordingStopped, match="its storage has 0: it was freed") as caught:
        step(2)
    step(3)
    assert len(caught) == 1
    monitor.close()
    assert read(directory).steps.tolist() == [0, 1]


@pytest.mark.parametrize("which", ["after", "before", "grads"])
def test_the_kernel_refuses_a_freed_tensor(which: str) -> None:
    given = {name: [torch.ones(4, 3)] for name in ("after", "before", "grads")}
    kernel = CpuGram(given["before"], [(0, 0, 0, 4)])
    kernel(**given, out=np.empty((1, 6)))
    given[which][0].untyped_storage().resize_(0)
    with pytest.raises(InvalidArgument, match=rf"{which}.0. needs 48 bytes .* its storage has 0"):
        kernel(**given, out=np.empty((1, 6)))


@pytest.mark.parametrize(
    ("tensor", "entries", "lacks"),
    [
        (torch.zeros(4, 3), 12, False),
        (torch.zeros(4, 3), 11, True),
        (torch.zeros(5, 3)[1:], 15, False),
        (torch.zeros(5, 3)[1:], 14, True),
        (torch.zeros(3, 4).T, 11, True),
        (torch.zeros(4, 6)[:, ::2], 23, False),
        (torch.zeros(4, 6)[:, ::2], 22, True),
        (torch.zeros(1).expand(4, 3), 1, False),
        (torch.zeros(1).expand(4, 3), 0, True),
        (torch.zeros(0, 3), 0, False),
        (torch.zeros(()), 1, False),
        (torch.zeros(()), 0, True),
    ],
)
def test_what_lacks_memory(tensor: torch.Tensor, entries: int, lacks: bool) -> None:
    tensor.untyped_storage().resize_(entries * tensor.element_size())
    assert lacks_memory(tensor) is lacks
