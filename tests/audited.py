"""Short watched runs with known faults in single steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn
from watched import batch, loss_of, network

from spherical_motion.monitor import watch

ONSET = 5
"""The first step of a fault."""

Make = Callable[[nn.Module], torch.optim.Optimizer]
Meddle = Callable[[nn.Module, torch.optim.Optimizer, int], object]


def nothing(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Leave all as it is."""


def recorded(
    directory: Path,
    make: Make,
    steps: int = 22,
    *,
    model: nn.Module | None = None,
    before: Meddle = nothing,
    after: Meddle = nothing,
    inputs: bool = True,
    **given: object,
) -> Path:
    """A run of `network` with code around each step; returns its directory."""
    model = network() if model is None else model
    optimizer = make(model)
    example = batch(0)[0].to(next(model.parameters()).dtype)
    groups = "certified" if inputs else "plain"
    given = {"groups": groups, "quiet": True} | given
    with watch(model, optimizer, example if inputs else None, directory, **given):
        for step in range(steps):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            before(model, optimizer, step)
            optimizer.step()
            after(model, optimizer, step)
    return directory


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)


def stepping_with(make: Make, **real: float | tuple[float, float]) -> Make:
    """An optimizer that steps with other settings than it shows, from `ONSET` on."""

    def made(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = make(model)
        base = type(optimizer)
        step = base.step.__wrapped__ if hasattr(base.step, "__wrapped__") else base.step

        class Cheating(base):
            taken = 0

            def step(self, closure: None = None) -> None:
                shown: list[Mapping[str, object]] = [dict(group) for group in self.param_groups]
                for group in self.param_groups if self.taken >= ONSET else ():
                    group.update(real)
                step(self)
                for group, kept in zip(self.param_groups, shown, strict=True):
                    group.update({name: kept[name] for name in real})
                self.taken += 1

        known = inspect.signature(base).parameters
        settings = {k: v for k, v in optimizer.defaults.items() if k in known}
        return Cheating(model.parameters(), **settings)

    return made
