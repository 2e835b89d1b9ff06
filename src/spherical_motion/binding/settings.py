"""What the settings of an optimizer say: its rule, and the scalars of its param groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch

from spherical_motion.vocabulary.hyperparameters import CLASSES

Scalar: TypeAlias = bool | int | float | str | list[float] | None


def class_name(optimizer: torch.optim.Optimizer) -> str:
    """Name of the class whose rule an optimizer steps by: of the first known one it derives from.

    A subclass of one of torch's own is taken for it; whoever changes the rule itself derives from
    `torch.optim.Optimizer`.

    >>> class Logged(torch.optim.SGD): ...
    >>> class_name(Logged([torch.zeros(1)], lr=0.1))
    'SGD'
    """
    for cls in type(optimizer).__mro__:
        # What torch has and no formula is for ends the search: NAdam is no Adam.
        if cls is torch.optim.Optimizer:
            break
        if cls.__name__ in CLASSES or cls.__module__.startswith("torch.optim."):
            return cls.__name__
    return type(optimizer).__name__


def scalar_settings(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Scalar]]:
    """The scalar settings of every param group, with the class and number of its optimizer.

    >>> scalar_settings([torch.optim.SGD([torch.zeros(1)], lr=0.1)])[0]["lr"]
    0.1
    """
    return [
        {"class": type(optimizer).__name__, "optimizer": index, **_scalars(param_group)}
        for index, optimizer in enumerate(optimizers)
        for param_group in optimizer.param_groups
    ]


def _scalars(param_group: Mapping[str, object]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for key, value in param_group.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, (tuple, list)) and all(isinstance(v, (int, float)) for v in value):
            found[key] = [float(v) for v in value]
        elif value is None or isinstance(value, (bool, int, float, str)):
            found[key] = value
    return found
