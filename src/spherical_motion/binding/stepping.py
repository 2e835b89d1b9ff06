"""Which optimizer and which of its param groups step a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup


class Stepper(NamedTuple):
    """An optimizer and the number of the param group by which it steps a parameter."""

    optimizer: torch.optim.Optimizer
    param_group: int


class Steppers:
    """Who steps which parameter, as of now.

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> steppers = Steppers([torch.optim.SGD([weight], lr=0.1)])
    >>> steppers.of(weight).param_group
    0
    >>> steppers.of(nn.Parameter(torch.zeros(2))) is None
    True
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._found: dict[int, list[Stepper]] = {}
        for optimizer in optimizers:
            for number, param_group in enumerate(optimizer.param_groups):
                for parameter in param_group["params"]:
                    stepper = Stepper(optimizer, number)
                    self._found.setdefault(id(parameter), []).append(stepper)

    def of(self, parameter: nn.Parameter) -> Stepper | None:
        """Who steps the parameter: the first, if several do; None if none does."""
        found = self._found.get(id(parameter))
        return found[0] if found else None

    def only_one(
        self, parameter: nn.Parameter, name: str, group: InvariantGroup, where: str
    ) -> Stepper:
        """Who steps `parameter`, a member of `group`.

        Raises:
            InvalidArgument: no param group does, or several do.
        """
        found = self._found.get(id(parameter), [])
        if len(found) != 1:
            by = f"{len(found)} param groups" if found else "none of the optimizers"
            raise InvalidArgument(
                f"{where}: parameter {name!r} of group {group.name!r} is stepped by {by}; expected "
                "exactly one. Pass the optimizer that was made from this very model's parameters "
                "(after moving or wrapping it), or leave the group out."
            )
        return found[0]
