"""Every optimizer that the contract tests run: torch's and ours, with what each promises.

A new one is one more entry of `OPTIMIZERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion import InvariantGroup, Slice, optim

Made = tuple[torch.optim.Optimizer, Sequence[Any]]
"""An optimizer, and whatever beside it has a `state_dict` (a wrapper, a schedule)."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One optimizer and what is promised of it beyond what is asked of all.

    Attributes:
        make: (model, groups, **options) → `Made`; options are torch's `foreach` and `maximize`.
        keeps_radius: the norm of each group stays, and the function does not depend on it.
        joined: it is given all rows as one group.
        starts_from_norm: its settings follow from the norm of the weights at the start.
        survives_zero: a group that is all zeros gets weights, and finite ones.
        options: which of `foreach` and `maximize` can be given.
        copies: deepcopy and pickle take all that is needed along.
    """

    make: Callable[..., Made]
    keeps_radius: bool = False
    joined: bool = False
    starts_from_norm: bool = False
    survives_zero: bool = True
    options: frozenset[str] = frozenset({"foreach", "maximize"})
    copies: bool = True


def plain(kind: type[torch.optim.Optimizer], **settings: Any) -> Case:
    """An optimizer of torch, which knows nothing of groups."""

    def make(model: nn.Module, groups: Sequence[InvariantGroup], **options: Any) -> Made:
        made: Any = kind(model.parameters(), **settings, **options)  # pyright: ignore
        return made, ()

    return Case(make)


def steered(kind: Any, joined: bool = False, **settings: Any) -> Case:
    """One of ours that holds every group at its radius."""

    def make(model: nn.Module, groups: Sequence[InvariantGroup], **options: Any) -> Made:
        return kind(model, layers(groups) if joined else groups, **settings, **options), ()

    return Case(make, keeps_radius=True, joined=joined)


def rotated(kind: type[torch.optim.Optimizer], free: bool, **settings: Any) -> Case:
    """An optimizer of torch inside `Rotational`, which holds every group at its radius.

    `free`: its direction does not depend on that radius; a buffer that holds earlier pulls of L2
    decay, and Adam's epsilon, make it.
    """

    def make(model: nn.Module, groups: Sequence[InvariantGroup], **options: Any) -> Made:
        made: Any = kind(model.parameters(), **settings, **options)  # pyright: ignore
        return made, [optim.Rotational(model, made, groups)]

    # A copy of an optimizer takes no hooks along.
    return Case(make, keeps_radius=free, copies=False)


def rescaled(kind: type[torch.optim.Optimizer], **settings: Any) -> Case:
    """An optimizer of torch beside `RescaleOnDecay`."""

    def make(model: nn.Module, groups: Sequence[InvariantGroup], **options: Any) -> Made:
        made: Any = kind(model.parameters(), **settings, **options)  # pyright: ignore
        images = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0)).double()
        return made, [optim.RescaleOnDecay(model, made, groups, images)]

    return Case(make, copies=False)


def from_sgd(model: nn.Module, groups: Sequence[InvariantGroup], **options: Any) -> Made:
    maximize = options.pop("maximize", False)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.01, maximize=maximize)
    return optim.AdaGradG.from_sgd(model, groups, sgd, **options), ()


def filters(model: nn.Module) -> list[InvariantGroup]:
    """The filters of `small_net`, but for the last one, which belongs to nobody."""
    rows = model.conv.weight.shape[0] - 1  # pyright: ignore
    numel = model.conv.weight[0].numel()  # pyright: ignore
    return [
        InvariantGroup(f"conv[{i}]", "scale", (Slice("conv.weight", 0, i, i + 1),), (), numel, 0.0)
        for i in range(rows)
    ]


def layers(groups: Sequence[InvariantGroup]) -> list[InvariantGroup]:
    """The same rows as one group."""
    slices = tuple(s for group in groups for s in group.slices)
    return [InvariantGroup("conv", "scale", slices, (), sum(g.numel for g in groups), 0.0)]


class SmallNet(nn.Module):
    """A convolution and a batch norm without epsilon to speak of, and a layer behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3, bias=False)
        self.norm = nn.BatchNorm2d(5, eps=1e-30)
        self.out = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.norm(self.conv(images))).mean((2, 3)))


def small_net() -> SmallNet:
    """The same weights at every call, float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallNet().double()


ADAMW = {"rule": "adamw", "lr": 1e-2}
SGDM = {"rule": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-3}

OPTIMIZERS: dict[str, Case] = {
    "SGD": plain(torch.optim.SGD, lr=0.05, weight_decay=1e-2),
    "SGD, momentum": plain(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "SGD, Nesterov": plain(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": plain(torch.optim.Adam, lr=1e-2, weight_decay=1e-2),
    "AdamW": plain(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
    "AdaGradG, filters": steered(optim.AdaGradG, lr=0.7, beta=0.99, other=SGDM),
    "AdaGradG, one layer": steered(optim.AdaGradG, True, lr=0.7, beta=0.99, other=ADAMW),
    "AdaGradG from SGD": Case(from_sgd, keeps_radius=True, starts_from_norm=True),
    "AdamG, filters": steered(optim.AdamG, lr=0.02, other=ADAMW),
    "Rotational SGD": rotated(torch.optim.SGD, True, lr=0.05, weight_decay=1e-2),
    "Rotational SGD, momentum": rotated(
        torch.optim.SGD, False, lr=0.05, momentum=0.9, weight_decay=1e-2
    ),
    "Rotational AdamW": rotated(torch.optim.AdamW, False, lr=1e-2, weight_decay=0.1),
    "RescaleOnDecay SGD": rescaled(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "RescaleOnDecay AdamW": rescaled(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
    "AdamG, one layer": steered(optim.AdamG, True, lr=0.02, other=SGDM),
}
