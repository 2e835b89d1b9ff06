"""The settings under which an optimizer steps invariant groups, followed from step to step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.members import Members
from spherical_motion.vocabulary import HyperParameters

__all__ = ["SettingsWatch"]

FOLLOWED = ("lr", "weight_decay", "momentum", "betas", "nesterov", "dampening")


class SettingsWatch:
    """The param groups that step some invariant groups, and what changed in them.

    They are kept by number: `optimizer.load_state_dict` puts new dicts in their place.

    Args:
        optimizer: whose param groups schedulers write to.
        members: bound to it.
        where: the caller's name, for messages.

    Attributes:
        groups_of: for each watched param group, the numbers of the invariant groups it steps.

    Raises:
        InvalidArgument: a learning rate that lives on an accelerator.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, members: Members, where: str) -> None:
        self._optimizer = optimizer
        number = {id(group): i for i, group in enumerate(optimizer.param_groups)}
        owned: dict[int, list[int]] = {}
        for i in range(len(members)):
            owned.setdefault(number[id(members.owner(i))], []).append(i)
        self._numbers = list(owned)
        self.groups_of = list(owned.values())
        self._seen: list[Any] = [None] * len(self._numbers)
        for group in self._param_groups():
            lr = group["lr"]
            if isinstance(lr, torch.Tensor) and not lr.is_cpu:
                raise InvalidArgument(
                    f"{where}: the learning rate must be a number or a tensor on the CPU, got a "
                    f"tensor on {lr.device}, which would have to be waited for at every step. "
                    "Make the optimizer with a float lr."
                )

    def __len__(self) -> int:
        return len(self._numbers)

    def settings(self) -> list[HyperParameters]:
        """The settings of each watched param group as they are now."""
        name = _class_name(self._optimizer)
        return [HyperParameters.from_param_group(name, group) for group in self._param_groups()]

    def changed(self) -> Iterator[tuple[int, HyperParameters]]:
        """(index, settings) of each watched param group that differs from the last call."""
        for index, group in enumerate(self._param_groups()):
            seen = tuple(_plain(group.get(key)) for key in FOLLOWED)
            if seen != self._seen[index]:
                self._seen[index] = seen
                yield (
                    index,
                    HyperParameters.from_param_group(_class_name(self._optimizer), group),
                )

    def forget(self) -> None:
        """Let the next call of `changed` return every param group."""
        self._seen = [None] * len(self._seen)

    def _param_groups(self) -> list[dict[str, Any]]:
        return [self._optimizer.param_groups[number] for number in self._numbers]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, torch.Tensor) else value


def _class_name(optimizer: torch.optim.Optimizer) -> str:
    return type(optimizer).__name__
