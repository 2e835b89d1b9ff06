"""A small residual network on 1,797 real handwritten digits.

The digits are so easy that the training loss of a plain run collapses, and with it the gradient,
on which the motion depends. The recipe therefore relabels a share of each batch at random, which
keeps the gradient large through all learning-rate drops (test accuracy stays near 99%).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from importlib import resources

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 10
SIDE = 8
TEST_SHARE = 5
"""One image in this many is kept for testing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Digits:
    """Images (n, 1, 8, 8) in [0, 1] as float32, labels (n,) as int64."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load_digits() -> Digits:
    """The embedded UCI digits (CC BY 4.0), split into 1,437 to train on and 360 to test on.

    >>> tuple(load_digits().train_images.shape)
    (1437, 1, 8, 8)
    """
    archive = resources.files("spherical_motion.recipes").joinpath("data/digits.npz")
    with archive.open("rb") as file, np.load(file) as stored:
        images = torch.from_numpy(stored["images"]).float().unsqueeze(1) / 16.0
        labels = torch.from_numpy(stored["labels"]).long()
    test = torch.arange(len(labels)) % TEST_SHARE == 0
    return Digits(images[~test], labels[~test], images[test], labels[test])


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm and a shortcut, which is 1×1 if the width changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential()
        if inside != outside:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, inside, h, w) to (n, outside, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitsResNet(nn.Module):
    """Eight convolutions, each followed by batch norm, and a linear head.

    >>> DigitsResNet()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.layer1 = Block(width, width, 1)
        self.layer2 = Block(width, 2 * width, 2)
        self.layer3 = Block(2 * width, 2 * width, 1)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (n, 1, 8, 8) to logits (n, 10)."""
        y = F.relu(self.bn(self.conv(x)))
        y = self.layer3(self.layer2(self.layer1(y)))
        return self.head(y.mean(dim=(2, 3)))


@dataclasses.dataclass(frozen=True, slots=True)
class DigitsRecipe:
    """SGD with momentum and weight decay, and two learning-rate drops.

    With the defaults the first stage lasts 16 relaxation times, the second 6, the third 0.3: the
    first two reach equilibrium and the last does not.
    """

    lr: float = 0.1
    weight_decay: float = 1e-2
    momentum: float = 0.9
    milestones: tuple[int, ...] = (400, 2000)
    steps: int = 2800
    lr_drop: float = 10.0
    batch_size: int = 64
    relabelled: float = 0.1
    width: int = 16
    seed: int = 0

    def build(self) -> tuple[DigitsResNet, torch.optim.Optimizer, torch.Tensor]:
        """Model, optimizer and one batch of images to probe the model with."""
        torch.manual_seed(self.seed)
        model = DigitsResNet(self.width)
        optimizer = torch.optim.SGD(
            model.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        return model, optimizer, load_digits().train_images[: self.batch_size]

    def train(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        on_step: Callable[[int, dict[str, torch.Tensor]], None] = lambda step, scalars: None,
    ) -> float:
        """Run all steps and return the test accuracy.

        `on_step(step, {"loss": ..., "accuracy": ...})` follows each step.
        """
        digits = load_digits()
        scheduler = torch.optim.lr_scheduler.MultiStepLR(
            optimizer, list(self.milestones), 1.0 / self.lr_drop
        )
        for step, (images, labels) in enumerate(self._batches(digits)):
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            accuracy = (logits.detach().argmax(1) == labels).float().mean()
            on_step(step, {"loss": loss.detach(), "accuracy": accuracy})
        return self.evaluate(model, digits)

    def evaluate(self, model: nn.Module, digits: Digits) -> float:
        """Fraction of the test images classified correctly; the model keeps its mode."""
        was_training = model.training
        model.eval()
        with torch.no_grad():
            right = (model(digits.test_images).argmax(1) == digits.test_labels).float().mean()
        model.train(was_training)
        return float(right)

    def _batches(self, digits: Digits) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Shuffled batches, each image shifted by up to a pixel, some labels drawn at random."""
        generator = torch.Generator().manual_seed(self.seed)
        padded = F.pad(digits.train_images, (1, 1, 1, 1))
        count, order = len(digits.train_labels), torch.empty(0, dtype=torch.long)
        for _ in range(self.steps):
            if len(order) < self.batch_size:
                order = torch.randperm(count, generator=generator)
            chosen, order = order[: self.batch_size], order[self.batch_size :]
            dy, dx = torch.randint(0, 3, (2,), generator=generator).tolist()
            images = padded[chosen, :, dy : dy + SIDE, dx : dx + SIDE]
            noise = torch.rand(self.batch_size, generator=generator) < self.relabelled
            others = torch.randint(0, CLASSES, (self.batch_size,), generator=generator)
            yield images, torch.where(noise, others, digits.train_labels[chosen])
