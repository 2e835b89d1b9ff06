"""A ResNet-18 with a CIFAR stem (3×3, stride 1, no pooling), as the overhead is promised for."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from spherical_motion.recipes.digits import Block

__all__ = ["ResNet18"]


class ResNet18(nn.Module):
    """20 convolutions, 11.2 million parameters, for 32×32 images."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(64)
        widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        self.layers = nn.Sequential(
            *(
                block
                for inside, outside, stride in widths
                for block in (Block(inside, outside, stride), Block(outside, outside, 1))
            )
        )
        self.head = nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (n, 3, 32, 32) to logits (n, classes)."""
        y = self.layers(F.relu(self.bn(self.conv(x))))
        return self.head(y.mean(dim=(2, 3)))
