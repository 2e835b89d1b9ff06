"""The rule an optimizer steps by."""

from __future__ import annotations

import torch

from spherical_motion.vocabulary.hyperparameters import CLASSES

__all__ = ["class_name"]


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
