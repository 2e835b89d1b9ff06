"""What other tools take for scale-invariant, by parameter.

Each rule is given the model with its real weights, and, where it looks at gradients, one backward
pass of a random combination of the outputs, in float32 as in training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spherical_motion.invariance import call_model

__all__ = ["RULES", "flagged"]

NORM_NAMES = re.compile(r"norm|bn|ln_")

COSINE_BOUND = 0.1
"""δ of AdamP (Heo et al. 2021), its default."""


def by_name(model: nn.Module) -> set[str]:
    """The norm layers' own gains and shifts, recognised by name."""
    return {name for name, _ in model.named_parameters() if NORM_NAMES.search(name)}


def by_dimensions(model: nn.Module) -> set[str]:
    """Every parameter with more than one axis."""
    return {name for name, p in model.named_parameters() if p.ndim > 1}


def by_cosine(model: nn.Module) -> set[str]:
    """cos(w, g) < δ/√d in every row, or for the whole tensor, as AdamP asks at each step."""
    found = set()
    for name, p in model.named_parameters():
        if p.grad is None or p.ndim < 2:
            continue
        for shape in ((p.shape[0], -1), (1, -1)):
            w, g = p.detach().reshape(shape), p.grad.reshape(shape)
            norms = (w.norm(dim=1) + 1e-8) * (g.norm(dim=1) + 1e-8)
            cosine = (w * g).sum(1).abs() / norms
            if cosine.max() < COSINE_BOUND / w.shape[1] ** 0.5:
                found.add(name)
                break
    return found


RULES: Mapping[str, Callable[[nn.Module], set[str]]] = {
    "name": by_name,
    "ndim > 1": by_dimensions,
    "cosine": by_cosine,
}


def flagged(model: nn.Module, inputs: Any) -> dict[str, set[str]]:
    """Parameters that each rule flags; leaves the model's gradients empty."""
    torch.manual_seed(1)
    total = torch.zeros(())
    for output in tensors(call_model(model, inputs)):
        total = total + (output * torch.randn_like(output)).sum()
    total.backward()
    found = {name: rule(model) for name, rule in RULES.items()}
    model.zero_grad(set_to_none=True)
    return found


def tensors(outputs: Any) -> Iterator[Tensor]:
    """The floating tensors in nested outputs that have a gradient."""
    if isinstance(outputs, Tensor):
        if outputs.requires_grad:
            yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from tensors(value)
    elif isinstance(outputs, (list, tuple)):
        for value in outputs:
            yield from tensors(value)
