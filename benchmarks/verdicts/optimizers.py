"""The optimizers of the table, as a user makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from verdicts.nets import Task

__all__ = ["OPTIMIZERS", "SGDS", "Lion", "Maker"]


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023), written by hand as in many repositories."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; closures are not taken."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                average = state["exp_avg"]
                p.mul_(1.0 - group["lr"] * group["weight_decay"])
                update = average.mul(beta1).add_(p.grad, alpha=1.0 - beta1).sign_()
                p.add_(update, alpha=-group["lr"])
                average.mul_(beta2).add_(p.grad, alpha=1.0 - beta2)


@dataclasses.dataclass(frozen=True, slots=True)
class Maker:
    """How one kind of optimizer is made.

    Attributes:
        made: the class.
        rate: key of the learning rate in `Net.lr`.
        decay: key of the weight decay in `Net.weight_decay`.
        settings: what else it is given.
        rate_factor: times the net's rate.
        matrices_only: it takes matrices; AdamW steps the rest.
    """

    made: type[torch.optim.Optimizer]
    rate: str
    decay: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate_factor: float = 1.0
    matrices_only: bool = False

    def __call__(
        self,
        task: Task,
        model: nn.Module,
        made: type[torch.optim.Optimizer] | None = None,
        more: Mapping[str, Any] | None = None,
        spare_vectors: bool = False,
    ) -> list[torch.optim.Optimizer]:
        """The optimizers of a model; `made` stands in for the class, `more` for settings.

        With `spare_vectors` gains and biases do not decay.
        """
        lr = task.net.lr[self.rate] * self.rate_factor
        settings = {"lr": lr, **self.settings}
        decay = task.net.weight_decay[self.decay]
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for _, p in named if p.ndim > 1]
        vectors = [p for _, p in named if p.ndim < 2]
        split: list[torch.optim.Optimizer] = []
        if self.matrices_only:
            hidden = ("token", "place", "head")
            theirs = [p for n, p in named if p.ndim == 2 and not n.startswith(hidden)]
            rest = [p for _, p in named if all(p is not other for other in theirs)]
            split = OPTIMIZERS["AdamW"](task, _Listed(rest))
            matrices, vectors = theirs, []
        if spare_vectors:
            groups = [{"params": matrices, "weight_decay": decay}]
            groups += [{"params": vectors, "weight_decay": 0.0}] if vectors else []
        else:
            groups = [{"params": [*matrices, *vectors], "weight_decay": decay}]
        return [(made or self.made)(groups, **(settings | dict(more or {}))), *split]


class _Listed(nn.Module):
    """Some parameters as a module."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        self.listed = nn.ParameterList(parameters)


SGD = torch.optim.SGD
OPTIMIZERS: Mapping[str, Maker] = {
    "SGD": Maker(SGD, "sgd", "sgd", rate_factor=5.0),
    "momentum": Maker(SGD, "sgd", "sgd", {"momentum": 0.9}),
    "Nesterov": Maker(SGD, "sgd", "sgd", {"momentum": 0.9, "nesterov": True}),
    "dampening": Maker(SGD, "sgd", "sgd", {"momentum": 0.9, "dampening": 0.5}, rate_factor=2.0),
    "Adam": Maker(torch.optim.Adam, "adam", "adam"),
    "AdamW": Maker(torch.optim.AdamW, "adam", "adamw"),
    "NAdam": Maker(torch.optim.NAdam, "adam", "nadam"),
    "Lion": Maker(Lion, "lion", "lion"),
    "Muon": Maker(torch.optim.Muon, "muon", "muon", {"momentum": 0.95}, matrices_only=True),
}
"""The kinds of optimizers by their names in the table."""

SGDS = ("SGD", "momentum", "Nesterov", "dampening")
