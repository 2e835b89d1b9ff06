"""Which param group of which optimizer steps a parameter, by which rule and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import nn

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup
from spherical_motion.vocabulary.hyperparameters import CLASSES

Scalar: TypeAlias = bool | int | float | str | list[float] | None


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
                    self._found.setdefault(id(parameter), []).append(Stepper(optimizer, number))

    def of(self, parameter: torch.Tensor) -> Stepper | None:
        """Who steps the parameter: the first, if several do; None if none does."""
        return next(iter(self.all_of(parameter)), None)

    def all_of(self, parameter: torch.Tensor) -> Sequence[Stepper]:
        """Every param group that steps the parameter."""
        return self._found.get(id(parameter), ())

    def only_one(
        self, parameter: nn.Parameter, name: str, group: InvariantGroup, where: str
    ) -> Stepper:
        """Who steps `parameter`, a member of `group`.

        Raises:
            InvalidArgument: no param group does, or several do.
        """
        found = self.all_of(parameter)
        if len(found) != 1:
            by = f"{len(found)} param groups" if found else "none of the optimizers"
            raise InvalidArgument(
                f"{where}: parameter {name!r} of group {group.name!r} is stepped by {by}; expected "
                "exactly one. Pass the optimizer that was made from this very model's parameters "
                "(after moving or wrapping it), or leave the group out."
            )
        return found[0]


def stepped_parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Every parameter that an optimizer steps, as of now.

    >>> len(stepped_parameters(torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)))
    2
    """
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def class_name(optimizer: torch.optim.Optimizer) -> str:
    """Name of the first known class that an optimizer derives from, to whose rule it is held.

    So is a subclass that has a `step` of its own: most of these log or clip and call the rule.
    The laws of the steps and the audit find those that do something else. A class with a rule of
    its own derives from `torch.optim.Optimizer` itself.

    >>> class Logged(torch.optim.SGD): ...
    >>> class_name(Logged([torch.zeros(1)], lr=0.1))
    'SGD'
    """
    return _known_class(optimizer).__name__


def _known_class(optimizer: torch.optim.Optimizer) -> type[torch.optim.Optimizer]:
    for cls in type(optimizer).__mro__:
        # The search ends at any class of torch, with a formula or without: NAdam is no Adam.
        if cls is torch.optim.Optimizer:
            break
        if not issubclass(cls, torch.optim.Optimizer):
            continue
        if cls.__name__ in CLASSES or cls.__module__.startswith("torch.optim."):
            return cls
    return type(optimizer)


def scalar_settings(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Scalar]]:
    """The scalar settings of every param group, with the class and number of its optimizer.

    The class is that of `class_name`; "subclass" is the optimizer's own, where they differ.

    >>> scalar_settings([torch.optim.SGD([torch.zeros(1)], lr=0.1)])[0]["lr"]
    0.1
    """
    return [
        {**_names(optimizer), "optimizer": index, **_scalars(param_group)}
        for index, optimizer in enumerate(optimizers)
        for param_group in optimizer.param_groups
    ]


def _names(optimizer: torch.optim.Optimizer) -> dict[str, Scalar]:
    name, own = class_name(optimizer), type(optimizer).__name__
    return {"class": name} if name == own else {"class": name, "subclass": own}


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
