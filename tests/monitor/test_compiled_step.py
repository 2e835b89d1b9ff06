"""A compiled `step`: the compiler leaves the monitor's hooks alone, and they measure as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from spherical_motion.monitor import watch
from spherical_motion.records import read


def train(path: Path | None, *, compiled: bool) -> tuple[list[torch.Tensor], int]:
    """The weights after some steps, and how many pieces of code were compiled."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    monitor = None
    if path is not None:
        monitor = watch(model, optimizer, directory=path, groups="plain", products=8, quiet=True)
    torch._dynamo.reset()
    counters.clear()
    step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
    for t in range(6):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(t))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        step()
    if monitor is not None:
        monitor.close()
    return [p.detach() for p in model.parameters()], counters["frames"]["total"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_compiled_as_without_a_monitor(tmp_path: Path) -> None:
    plain, pieces = train(None, compiled=True)
    watched, more = train(tmp_path / "compiled", compiled=True)
    train(tmp_path / "loop", compiled=False)
    assert pieces > 0
    assert more <= pieces + 2  # `step` goes on after each of the two hooks
    for one, other in zip(plain, watched, strict=True):
        assert torch.equal(one, other)
    found, wanted = (read(tmp_path / name).gram for name in ("compiled", "loop"))
    for name in ("ww", "wd", "dd", "wp", "ws"):
        assert np.allclose(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-6)
