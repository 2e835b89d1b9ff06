"""Two small smooth networks in float64, on which 200 steps amplify no rounding, and a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frozen.flat import Value

__all__ = ["Problem", "convolutions", "linear", "snapshot", "state_of", "trained"]

SETTINGS = ("lr", "weight_decay", "beta")
"""Of each param group; -1 where it has none."""

Batch = tuple[Tensor, Tensor]


class Problem:
    """A model with its batches: four of them, in turn."""

    def __init__(self, model: nn.Module, *shape: int) -> None:
        self.model = model
        self.batches: list[Batch] = []
        for _ in range(4):
            x = torch.randn(12, *shape, dtype=torch.float64)
            self.batches.append((x, torch.randint(3, (12,))))

    @property
    def inputs(self) -> Tensor:
        """Example inputs."""
        return self.batches[0][0]

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy on a batch."""
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def step(self, optimizer: Any, number: int) -> float:
        """One step of training; returns the loss before it."""
        optimizer.zero_grad()
        loss = self.loss(self.batches[number % 4])
        loss.backward()
        optimizer.step()
        return float(loss.detach())


def convolutions(bias: bool = False) -> Problem:
    """Two convolutions with batch norm and a linear layer."""
    torch.manual_seed(7)
    layers = (
        nn.Conv2d(2, 4, 3, bias=bias),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 3, 2, bias=bias),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
    return Problem(nn.Sequential(*layers).double(), 2, 5, 5)


def linear() -> Problem:
    """Two linear layers with layer norm and a third without."""
    torch.manual_seed(8)
    layers = (
        nn.Linear(6, 10),
        nn.LayerNorm(10),
        nn.Tanh(),
        nn.Linear(10, 8),
        nn.LayerNorm(8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )
    return Problem(nn.Sequential(*layers).double(), 6)


def snapshot(key: str, model: nn.Module, optimizer: Any) -> Iterator[Value]:
    """Every weight, buffer and state as its norm and an uneven sum, and the rates."""
    for kind, tensors in (
        ("weights", dict(model.named_parameters())),
        ("buffers", dict(model.named_buffers())),
        ("state", state_of(model, optimizer)),
    ):
        sums = [entry for tensor in tensors.values() for entry in _summary(tensor)]
        if sums:
            yield f"{key}/{kind}", sums
    yield (
        f"{key}/settings",
        [[float(group.get(name, -1.0)) for name in SETTINGS] for group in optimizer.param_groups],
    )


def state_of(model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    """The optimizer's tensors, by parameter and name."""
    return {
        f"{name}.{entry}": tensor
        for name, parameter in model.named_parameters()
        for entry, tensor in sorted(optimizer.state.get(parameter, {}).items())
        if isinstance(tensor, Tensor)
    }


def _summary(tensor: Tensor) -> list[float]:
    """Its norm, and a sum in which every entry has a weight of its own."""
    entries = tensor.detach().double().numpy().ravel()
    if entries.size == 1:
        return [float(entries[0])]
    uneven = np.cos(np.arange(entries.size))
    norm = float(np.sqrt(np.sum(entries * entries)))
    return [norm, float(np.sum(uneven * entries))]


def trained(
    key: str,
    problem: Problem,
    optimizer: Any,
    steps: int = 200,
    *,
    schedule: Any = None,
    each: Callable[[int], Iterator[Value]] | None = None,
    seen: tuple[int, ...] = (9, 199),
) -> Iterator[Value]:
    """Train, and yield a snapshot after each of the steps `seen`."""
    for number in range(steps):
        loss = problem.step(optimizer, number)
        if schedule is not None:
            schedule.step()
        if number in seen:
            yield f"{key}/{number}/loss", loss
            yield from snapshot(f"{key}/{number}", problem.model, optimizer)
            if each is not None:
                yield from each(number)
