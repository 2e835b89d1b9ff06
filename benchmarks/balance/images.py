"""Image nets: convolutions with batch norm, with group norm, and an MLP without any norm."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from balance.data import digits
from balance.net import Batch, Net

__all__ = ["NETS", "image_loss"]


def convolutions(norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """Three convolutions, each followed by a norm, and a head without one."""
    layers: list[nn.Module] = []
    for inside, outside, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(inside, outside, 3, stride, 1), norm(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def perceptron(width: int = 96) -> nn.Sequential:
    """Four linear layers with ReLU and no norm: no matrix of it is scale-invariant."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inside in (64, width, width):
        layers += [nn.Linear(inside, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def image_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy of images and labels."""
    images, labels = batch
    return F.cross_entropy(model(images), labels)


LR = {"sgd": 0.05, "adam": 2e-3}
WEIGHT_DECAY = {"sgd": 5e-3, "adam": 2e-3, "adamw": 0.5}

NETS = (
    Net(
        "conv, batch norm",
        lambda: convolutions(nn.BatchNorm2d),
        digits,
        image_loss,
        "3 convolutions with batch norm, linear head; digits",
        LR,
        WEIGHT_DECAY,
    ),
    Net(
        "conv, group norm",
        lambda: convolutions(lambda channels: nn.GroupNorm(4, channels)),
        digits,
        image_loss,
        "3 convolutions with group norm of 4 groups, linear head; digits",
        LR,
        WEIGHT_DECAY,
    ),
    Net(
        "MLP, no norm",
        perceptron,
        digits,
        image_loss,
        "4 linear layers with ReLU, 96 wide; digits",
        LR,
        WEIGHT_DECAY,
    ),
)
