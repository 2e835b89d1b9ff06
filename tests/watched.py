"""A small network, its groups by hand, and a training loop to watch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from spherical_motion.vocabulary import InvariantGroup, Slice


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )


def groups_of(model: nn.Module) -> list[InvariantGroup]:
    """The convolutions of `network`, by hand."""
    rows = Slice("0.weight", 0, 0, 6)
    columns = Slice("3.weight", 1, 0, 4)
    return [
        InvariantGroup("0", "scale", (rows,), ((rows,),), 54, 1e-5),
        InvariantGroup("3", "scale", (columns,), ((columns,),), 216, 1e-5),
    ]


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return (
        torch.randn(8, 1, 6, 6, generator=generator),
        torch.randint(3, (8,), generator=generator),
    )


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    x, y = batch(step)
    return nn.functional.cross_entropy(model(x), y)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: torch.optim.SGD(
        m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, dampening=0.1
    ),
    "nesterov": lambda m: torch.optim.SGD(
        m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True
    ),
    "foreach": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, foreach=True),
    "fused": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, fused=True),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, weight_decay=0.01),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3),
}


def rows_of(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(1, -1)
