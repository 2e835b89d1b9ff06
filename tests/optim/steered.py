"""Small problems on which rescaling and rotating can be checked against what is written out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import spherical_motion as smd
from spherical_motion.recipes.digits import DigitsResNet
from spherical_motion.vocabulary import InvariantGroup, Slice


class Lion(torch.optim.Optimizer):
    """Chen et al. (2023), written out; known to the library by its name."""

    def __init__(self, params: Any, lr: float, betas=(0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                m = state.setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (beta1 * m + (1.0 - beta1) * p.grad).sign())
                m.mul_(beta2).add_(p.grad, alpha=1.0 - beta2)


SETTINGS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-3, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, weight_decay=1e-3, momentum=0.9, nesterov=True
    ),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    "lion": lambda p: Lion(p, lr=1e-4, weight_decay=1.0),
}


def whole(name: str, parameter: torch.Tensor) -> InvariantGroup:
    """A group of one whole parameter, taken for invariant."""
    part = Slice(name, 0, 0, len(parameter))
    return InvariantGroup(name, "scale", (part,), (), parameter.numel(), defect=0.0)


class Loose(nn.Module):
    """One parameter and no forward: its gradients are written by hand."""

    def __init__(self, *shape: int, dtype: torch.dtype = torch.float64, seed: int = 99) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))

    @property
    def group(self) -> InvariantGroup:
        return whole("weight", self.weight)

    def random_gradient(self, generator: torch.Generator) -> None:
        """A random direction in the tangent plane, of size 1/|w|: a unit gradient of norm 1."""
        w = self.weight.detach()
        g = torch.randn(w.shape, generator=generator, dtype=w.dtype)
        g -= (g * w).sum() / w.square().sum() * w
        self.weight.grad = g / g.norm() / w.norm()


def angle_between(a: torch.Tensor, b: torch.Tensor) -> float:
    """Angle between two tensors, radians, accurate however small."""
    a, b = a.detach().double().flatten(), b.detach().double().flatten()
    a, b = a / a.norm(), b / b.norm()
    return 2.0 * math.atan2(float((a - b).norm()), float((a + b).norm()))


def digits(
    dtype: torch.dtype = torch.float64, granularity: Any = "layer"
) -> tuple[nn.Module, torch.Tensor, torch.Tensor, tuple[InvariantGroup, ...]]:
    """A small residual network with batch norm, without its ε, a batch and its groups."""
    model, x, y = _digits(dtype)
    return model, x, y, _groups_of_digits(granularity)


def _digits(dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = DigitsResNet(4).to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30
    return model, torch.randn(24, 1, 8, 8, dtype=dtype), torch.randint(0, 10, (24,))


@functools.cache
def _groups_of_digits(granularity: Any) -> tuple[InvariantGroup, ...]:
    model, x, _ = _digits(torch.float64)
    return smd.find_groups(model, x, granularity)


def backward(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, steps: int
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model, x, y)
        optimizer.step()
