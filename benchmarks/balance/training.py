"""Train one net of the table with one optimizer and one schedule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import nn

from balance.net import Net

__all__ = ["OPTIMIZERS", "SCHEDULES", "Setting", "rate_factor", "train"]

OPTIMIZERS = ("SGDM", "Nesterov", "Adam", "AdamW")
SCHEDULES = ("constant", "cosine")

MOMENTUM = 0.9
WARM_UP = 0.2
"""Share of a run with cosine in which the rate rises."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One run of the table.

    Attributes:
        optimizer: one of `OPTIMIZERS`.
        schedule: "constant", or "cosine" with a linear warm-up.
        steps: length of the run.
        beta2: of the Adams.
        seed: of weights and batches.
    """

    optimizer: str
    schedule: str = "constant"
    steps: int = 2000
    beta2: float = 0.999
    seed: int = 0

    def make(self, net: Net, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer. Matrices decay, gains and biases do not."""
        kind = "sgd" if self.optimizer in ("SGDM", "Nesterov") else "adam"
        decay = net.weight_decay["sgd" if kind == "sgd" else self.optimizer.lower()]
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        lr, betas = net.lr[kind], (MOMENTUM, self.beta2)
        if kind == "sgd":
            nesterov = self.optimizer == "Nesterov"
            return torch.optim.SGD(groups, lr, momentum=MOMENTUM, nesterov=nesterov)
        made = torch.optim.AdamW if self.optimizer == "AdamW" else torch.optim.Adam
        return made(groups, lr, betas=betas)


def rate_factor(schedule: str, step: int, steps: int) -> float:
    """The rate of a step over the largest one.

    >>> rate_factor("constant", 7, 100), rate_factor("cosine", 9, 100)
    (1.0, 0.5)
    """
    if schedule == "constant":
        return 1.0
    warm_up = round(WARM_UP * steps)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def train(
    net: Net,
    setting: Setting,
    watch: Callable[[nn.Module, torch.optim.Optimizer], Callable[[], None]] | None = None,
) -> float:
    """Train and return the mean loss of the last hundredth of the run.

    `watch(model, optimizer)` is called before the first step and returns what to call at the end.
    """
    torch.manual_seed(setting.seed)
    model = net.build()
    optimizer = setting.make(net, model)
    peak = optimizer.param_groups[0]["lr"]
    done = watch(model, optimizer) if watch is not None else lambda: None
    losses = []
    for step, batch in zip(range(setting.steps), net.batches(setting.seed + 1), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = peak * rate_factor(setting.schedule, step, setting.steps)
        optimizer.zero_grad()
        loss = net.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    done()
    last = losses[-max(1, setting.steps // 100) :]
    return float(torch.stack(last).mean())
