"""An optimizer that no theory knows, whose updates have a known correlation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Wandering(torch.optim.Optimizer):
    """w ← (1 - ηλ)w - ηu with u_t = φu_{t-1} + √(1 - φ²)·ξ_t, whatever the gradient.

    ρ_k = φ^k exactly, φ = `momentum`, so c = (1 + φ)/(1 - φ); the entries of ξ have variance 1,
    times `stretch`² if the parameter has that attribute.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            phi = group.get("momentum", 0.0)
            for p in group["params"]:
                noise = torch.randn(p.shape, generator=self.generator, dtype=torch.float64)
                noise *= getattr(p, "stretch", 1.0)
                u = self.state[p].get("u")
                self.state[p]["u"] = u = (
                    noise if u is None else phi * u + (1 - phi**2) ** 0.5 * noise
                )
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * u.to(p.dtype))
