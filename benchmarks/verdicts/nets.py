"""The nets of the table: how to build and feed them, at which rates, and where faults hit them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from balance.attention import LR as TEXT_LR
from balance.attention import WEIGHT_DECAY as TEXT_WEIGHT_DECAY
from balance.attention import PreNormBlock, text_loss
from balance.data import CHARACTERS, characters, digits
from balance.images import LR, WEIGHT_DECAY, convolutions, image_loss, perceptron
from balance.net import Net
from torch import nn

__all__ = ["TASKS", "Task"]

EPSILON = 1e-8
"""ε of the image nets' norm layers. At 1e-5 it would be 20% of the pull with AdamW: no false alarm,
but a healthy run should have none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A net of this table.

    Attributes:
        key: a short name.
        net: model, data, loss and rates.
        groups: what is watched, as `watch` takes it.
        layer: the parameter that a fault of one layer hits.
        eval_mode: whether a norm layer of it acts differently in eval mode.
        norms: whether it has norm layers.
        before: the gain whose output goes through `layer` into the next norm layer, if any.
    """

    key: str
    net: Net
    groups: Literal["certified", "all"]
    layer: str
    eval_mode: bool = False
    norms: bool = True
    before: str = ""


class SmallGPT(nn.Module):
    """One pre-LN block over characters, head and embedding apart."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(CHARACTERS, width), nn.Embedding(32, width)
        self.block = PreNormBlock(width, causal=True, qk_norm=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CHARACTERS, bias=False)
        for table in (self.token, self.place, self.head):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map characters (n, length) to logits (n, length, CHARACTERS)."""
        x = self.token(ids) + self.place(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.block(x)))


def normed_perceptron(width: int = 64) -> nn.Sequential:
    """Three linear layers, each followed by layer norm and ReLU, and a head without norm."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inside in (64, width, width):
        layers += [nn.Linear(inside, width, bias=False), nn.LayerNorm(width, EPSILON), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def batch_norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=EPSILON)


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels, eps=EPSILON)


RATES = LR | {"lion": 3e-4, "muon": 0.02}
DECAYS = WEIGHT_DECAY | {"adamw": 1.0, "lion": 6.0, "nadam": 2e-3, "muon": 0.1}
TEXT_RATES = TEXT_LR | {"lion": 3e-4, "muon": 0.02}
TEXT_DECAYS = TEXT_WEIGHT_DECAY | {"adamw": 0.5, "lion": 3.0, "nadam": 1e-4, "muon": 0.1}


def _convolutions_without_bias() -> nn.Module:
    """The convolutions with group norm; a bias in front of a norm is part of two groups."""
    model = convolutions(group_norm)
    for module in model:
        if isinstance(module, nn.Conv2d):
            module.bias = None
    return model


def _images(name: str, build: Callable[[], nn.Module], note: str) -> Net:
    return Net(name, build, digits, image_loss, note, RATES, DECAYS)


TASKS: Mapping[str, Task] = {
    task.key: task
    for task in (
        Task(
            "conv-bn",
            _images(
                "conv, batch norm",
                functools.partial(convolutions, batch_norm),
                "3 convolutions with batch norm, linear head; digits",
            ),
            "certified",
            "3.weight",
            eval_mode=True,
            before="1.weight",
        ),
        Task(
            "conv-gn",
            _images(
                "conv, group norm",
                _convolutions_without_bias,
                "3 convolutions with group norm of 4 groups, linear head; digits",
            ),
            "all",
            "3.weight",
            before="1.weight",
        ),
        Task(
            "mlp-ln",
            _images(
                "MLP, layer norm",
                normed_perceptron,
                "3 linear layers with layer norm behind each, linear head; digits",
            ),
            "certified",
            "4.weight",
            before="2.weight",
        ),
        Task(
            "gpt",
            Net(
                "GPT, pre-LN",
                SmallGPT,
                functools.partial(characters, size=4),
                text_loss,
                "1 pre-LN block, 32 wide, untied; characters of English text",
                TEXT_RATES,
                TEXT_DECAYS,
            ),
            "all",
            "block.up.weight",
        ),
        Task(
            "plain",
            _images(
                "MLP, no norm",
                perceptron,
                "4 linear layers with ReLU and no norm; digits",
            ),
            "all",
            "3.weight",
            norms=False,
        ),
    )
}
"""The nets by their short names."""
