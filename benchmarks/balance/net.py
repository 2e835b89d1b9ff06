"""One net of the table: how to build it, what to feed it, and at which rates it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import nn

__all__ = ["Batch", "Net"]

Batch: TypeAlias = tuple[torch.Tensor, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Net:
    """A net of the table.

    Attributes:
        name: as printed.
        build: makes the model; the caller sets the seed.
        batches: yields batches without end, from a seed. What they hold is for `loss` to know.
        loss: (model, batch) to the loss.
        note: what it is, in one line.
        lr: learning rate by kind of optimizer, "sgd" or "adam".
        weight_decay: by optimizer: "sgd" (SGDM and Nesterov), "adam" (L2) and "adamw".
    """

    name: str
    build: Callable[[], nn.Module]
    batches: Callable[[int], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    note: str
    lr: dict[str, float]
    weight_decay: dict[str, float]
