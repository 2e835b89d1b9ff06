"""Every optimizer of torch with a preconditioner, and steps of it with known gradients."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from spherical_motion.binding import preconditioner_rule, read_preconditioner
from spherical_motion.measure import CpuGram, Preconditioner

BETAS = {"betas": (0.8, 0.97)}

SETTINGS: dict[str, dict[str, Any]] = {
    "Adam": {**BETAS},
    "Adam with L2": {**BETAS, "weight_decay": 0.3},
    "Adam, amsgrad": {**BETAS, "weight_decay": 0.3, "amsgrad": True},
    "Adam, large eps": {**BETAS, "eps": 0.5},
    "Adam, decoupled": {**BETAS, "weight_decay": 0.3, "decoupled_weight_decay": True},
    "Adam, maximize": {**BETAS, "weight_decay": 0.3, "maximize": True},
    "AdamW": {**BETAS, "weight_decay": 0.3},
    "AdamW, amsgrad": {**BETAS, "amsgrad": True, "eps": 0.1},
    "NAdam": {**BETAS, "weight_decay": 0.3, "momentum_decay": 0.4, "eps": 0.2},
    "NAdam, decoupled": {**BETAS, "weight_decay": 0.3, "decoupled_weight_decay": True},
    "RAdam": {**BETAS, "weight_decay": 0.3, "eps": 0.2},
    "RAdam, decoupled": {**BETAS, "weight_decay": 0.3, "decoupled_weight_decay": True},
    "Adamax": {**BETAS, "weight_decay": 0.3, "eps": 0.2},
    "RMSprop": {"alpha": 0.9, "weight_decay": 0.3, "eps": 0.2},
    "RMSprop, momentum": {"alpha": 0.9, "momentum": 0.7, "weight_decay": 0.3},
    "RMSprop, centered": {"alpha": 0.9, "centered": True, "eps": 0.2},
    "RMSprop, all": {"alpha": 0.9, "centered": True, "momentum": 0.7, "weight_decay": 0.3},
    "Adagrad": {"lr_decay": 0.2, "weight_decay": 0.3, "eps": 0.2},
    "Adagrad, start": {"initial_accumulator_value": 0.4},
}
"""Name, which begins with the class → settings that make every part of the formula count."""

IMPLEMENTATIONS = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True, "foreach": False},
}
FUSED = ("Adam", "AdamW", "Adagrad")


def kind_of(name: str) -> str:
    """The class of torch."""
    return name.partition(",")[0].partition(" ")[0]


CASES = [
    (name, implementation)
    for name in SETTINGS
    for implementation in IMPLEMENTATIONS
    if implementation != "fused" or kind_of(name) in FUSED
]


def made(
    name: str, parameters: Sequence[torch.Tensor], implementation: str = "loop", lr: float = 0.1
) -> torch.optim.Optimizer:
    kind = getattr(torch.optim, kind_of(name))
    return kind(parameters, lr=lr, **SETTINGS[name], **IMPLEMENTATIONS[implementation])


@dataclasses.dataclass
class Step:
    """One step: tensors before and after, gradients of the minimized loss, optimizer state."""

    before: list[torch.Tensor]
    after: list[torch.Tensor]
    grads: list[torch.Tensor | None]
    group: dict[str, Any]
    states: list[dict[str, Any]]
    earlier: list[dict[str, Any]]


def steps_of(
    optimizer: torch.optim.Optimizer, count: int, generator: torch.Generator
) -> list[Step]:
    """`count` steps along random gradients, whose entries have many sizes."""
    steps: list[Step] = []
    for _ in range(count):
        grads = []
        for p in optimizer.param_groups[0]["params"]:
            size, sign = (torch.randn(p.shape, generator=generator) for _ in range(2))
            grads.append((size.exp() * 0.1 * sign.sign()).to(p.dtype))
        steps += steps_along(optimizer, grads)
    return steps


def steps_along(optimizer: torch.optim.Optimizer, grads: Sequence[torch.Tensor]) -> list[Step]:
    """One step along these gradients of the loss that is trained on."""
    parameters = optimizer.param_groups[0]["params"]
    sign = -1.0 if optimizer.param_groups[0]["maximize"] else 1.0
    for p, g in zip(parameters, grads, strict=True):
        p.grad = torch.empty_like(p).copy_(g)  # in the layout of the weights
    before, earlier = copies(parameters), states_of(optimizer)
    optimizer.step()
    minimized: list[torch.Tensor | None] = [sign * p.grad for p in parameters]
    group, after = dict(optimizer.param_groups[0]), copies(parameters)
    return [Step(before, after, minimized, group, states_of(optimizer), earlier)]


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [t.detach().clone() for t in tensors]


def states_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The state of each parameter, copied."""
    parameters = optimizer.param_groups[0]["params"]
    return [copy.deepcopy(dict(optimizer.state.get(p, {}))) for p in parameters]


def read(optimizer: torch.optim.Optimizer, step: Step) -> list[Preconditioner]:
    """The preconditioners of the step."""
    rule = preconditioner_rule(optimizer)
    assert callable(rule)
    found = [
        read_preconditioner(rule, step.group, state, w)
        for state, w in zip(step.states, step.before, strict=True)
    ]
    assert all(isinstance(p, Preconditioner) for p in found), found
    return found  # pyright: ignore


def read_earlier(optimizer: torch.optim.Optimizer, step: Step) -> list[Preconditioner | None]:
    """The preconditioners of the step before; where there was none the average is zero."""
    rule = preconditioner_rule(optimizer)
    assert callable(rule)
    found = []
    for state, w in zip(step.earlier, step.before, strict=True):
        p = read_preconditioner(rule, step.group, state, w)
        zero = Preconditioner.flat(0.0, average=torch.zeros_like(w))
        found.append(p if isinstance(p, Preconditioner) else zero)
    return found


def measured(
    optimizer: torch.optim.Optimizer, step: Step, products: int = 7, threads: int = 1
) -> np.ndarray:
    """(rows of all tensors, products), row by row along the first axis."""
    slices = [(t, 0, i, i + 1) for t, w in enumerate(step.before) for i in range(len(w))]
    out = np.full((len(slices), products), 7.0)
    with CpuGram(step.before, slices, threads=threads, products=products) as measure:
        earlier = read_earlier(optimizer, step) if products == 8 else None
        measure(step.after, step.before, step.grads, out, read(optimizer, step), earlier)
    return out
