"""The slow reference: all products of a run, from clones, in float64, with plain torch.

Nothing here shares code with the library. `SlowProducts` hooks an optimizer, copies what it is
about to change, and computes after the step what the library records.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["SlowProducts"]


class Before(NamedTuple):
    """What a step is about to change, in float64."""

    weight: torch.Tensor
    metric: torch.Tensor
    running: torch.Tensor


class SlowProducts:
    """Records ww, wd, dd, wg, gg, dg, wp, ws of every matrix at every step.

    Attributes:
        products: by name of the matrix, (steps, 8).
        rates: (steps,).
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.names = {n: p for n, p in model.named_parameters() if p.ndim > 1}
        self.rows: dict[str, list[list[float]]] = {name: [] for name in self.names}
        self.lrs: list[float] = []
        self.optimizer = optimizer
        self.adaptive = isinstance(optimizer, torch.optim.Adam)
        self.decoupled = isinstance(optimizer, torch.optim.AdamW)
        self.before: dict[str, Before] = {}
        self.hooks = [
            optimizer.register_step_pre_hook(self._copy),
            optimizer.register_step_post_hook(self._measure),
        ]

    @property
    def products(self) -> dict[str, NDArray[np.float64]]:
        return {name: np.array(rows) for name, rows in self.rows.items()}

    @property
    def rates(self) -> NDArray[np.float64]:
        return np.array(self.lrs)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def _metric(self, weight: nn.Parameter) -> torch.Tensor:
        """P, with both bias corrections; 1 for SGD and 0 before Adam's first step."""
        state = self.optimizer.state[weight]
        if not self.adaptive:
            return torch.ones_like(weight, dtype=torch.float64)
        if not state:
            return torch.zeros_like(weight, dtype=torch.float64)
        beta1, beta2 = self.optimizer.param_groups[0]["betas"]
        steps, eps = float(state["step"]), self.optimizer.param_groups[0]["eps"]
        second = state["exp_avg_sq"].double() / (1.0 - beta2**steps)
        return 1.0 / ((1.0 - beta1**steps) * (second.sqrt() + eps))

    def _running(self, weight: nn.Parameter) -> torch.Tensor:
        state = self.optimizer.state[weight]
        name = "exp_avg" if self.adaptive else "momentum_buffer"
        if not state or state[name] is None:
            return torch.zeros_like(weight, dtype=torch.float64)
        return state[name].detach().double().clone()

    @torch.no_grad()
    def _copy(self, *_: object) -> None:
        for name, weight in self.names.items():
            copy = weight.detach().double().clone()
            self.before[name] = Before(copy, self._metric(weight), self._running(weight))

    @torch.no_grad()
    def _measure(self, *_: object) -> None:
        group = self.optimizer.param_groups[0]
        self.lrs.append(group["lr"])
        for name, weight in self.names.items():
            w, metric_before, running = self.before[name]
            d, g = weight.detach().double() - w, weight.grad.double()
            x = g if self.decoupled else g + group["weight_decay"] * w
            metric = self._metric(weight)
            pairs = [(w, w), (w, d), (d, d), (w, g), (g, g), (d, g), (w, metric * x)]
            pairs.append((w, (metric - metric_before) * running))
            self.rows[name].append([float((a * b).sum()) for a, b in pairs])
