"""Watched tensors that the model or the optimizer no longer holds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spherical_motion.binding import stepped_parameters


def replaced(
    model: nn.Module, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
) -> list[bool]:
    """For each tensor whether the model has another one in its place, or the optimizer lost it.

    Training goes on with the model's own tensor then, and what is watched rests.

    >>> net = nn.Linear(2, 2)
    >>> optimizer, watched = torch.optim.SGD(net.parameters()), [net.weight, net.bias]
    >>> net.weight = nn.Parameter(torch.ones(2, 2))
    >>> replaced(net, optimizer, watched)
    [True, False]
    """
    used = set(map(id, model.parameters()))
    both = used & set(map(id, stepped_parameters(optimizer)))
    return [id(parameter) not in both for parameter in parameters]
