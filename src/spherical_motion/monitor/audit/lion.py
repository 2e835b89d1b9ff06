"""The rule of Lion (Chen et al., 2023), which torch does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from spherical_motion.monitor.audit.rules import (
    NotReplayed,
    State,
    StepRule,
    plain_settings,
)
from spherical_motion.vocabulary.hyperparameters import ParamGroup

VARIANTS = ("caution", "cautious", "use_gc")
"""Settings of other packages that change the step."""


def lion_settings(group: ParamGroup, dtype: torch.dtype) -> Mapping[str, Any]:
    """The settings of Lion.

    Raises:
        NotReplayed: one is missing, or turns the rule into another.
    """
    for name in ("lr", "betas"):
        if name not in group:
            raise NotReplayed(f"Lion has no setting {name!r}")
    for name in VARIANTS:
        if group.get(name):
            raise NotReplayed(f"Lion has a setting {name!r} that its rule does not have")
    return {"weight_decay": 0.0, "maximize": False, **plain_settings(group, dtype)}


def lion_step(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    settings: Mapping[str, Any],
) -> torch.Tensor:
    """w ← (1 - ηλ)w - η sign(β1 m + (1 - β1)g); m ← β2 m + (1 - β2)g.

    >>> w, g = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.0])
    >>> settings = {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.0, "maximize": False}
    >>> lion_step(w, g, {}, settings)
    tensor([ 0.9000, -1.0000])
    """
    lr, (beta1, beta2) = settings["lr"], settings["betas"]
    if not state:
        state["exp_avg"] = torch.zeros_like(weights)
    gradient = -gradient if settings["maximize"] else gradient
    average = state["exp_avg"]
    turned = (beta1 * average + (1.0 - beta1) * gradient).sign()
    average.mul_(beta2).add_(gradient, alpha=1.0 - beta2)
    return weights.mul_(1.0 - lr * settings["weight_decay"]).sub_(turned, alpha=lr)


def lion_jumps(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    state: State,
    settings: Mapping[str, Any],
) -> float:
    """(2η)² for each entry whose sign depends on how β1 m + (1 - β1)g is rounded."""
    average = state.get("exp_avg")
    if average is None:
        return 0.0
    beta1, _ = settings["betas"]
    old, new = beta1 * average.double(), (1.0 - beta1) * gradient.double()
    new = -new if settings["maximize"] else new
    size = old.abs() + new.abs()
    unsure = ((old + new).abs() <= 4.0 * torch.finfo(weights.dtype).eps * size) & (size > 0)
    return float(unsure.sum()) * (2.0 * settings["lr"]) ** 2


LION = StepRule(lion_step, lion_settings, elementwise=True, jumps=lion_jumps)
