"""Follow the settings under which an optimizer steps invariant groups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from spherical_motion.binding import Members, class_name
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import HyperParameters

ParamGroup = dict[str, Any]
"""A param group of an optimizer, or settings for one; torch does not type their values."""

FOLLOWED = ("lr", "weight_decay", "momentum", "betas", "nesterov", "dampening")


class SettingsWatch:
    """The param groups that step the invariant groups of `members`, and their changes.

    They are kept by number: `optimizer.load_state_dict` puts new dicts in their place.

    Attributes:
        groups_of: for each watched param group, the numbers of the invariant groups it steps.

    Raises:
        InvalidArgument: a learning rate on an accelerator; a rate or decay that is not
            finite and >= 0, here or, from `changed`, at a step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, members: Members, where: str) -> None:
        self._optimizer, self._where = optimizer, where
        number = {id(group): i for i, group in enumerate(optimizer.param_groups)}
        owned: dict[int, list[int]] = {}
        for i in range(len(members)):
            owned.setdefault(number[id(members.owner(i))], []).append(i)
        self._numbers = list(owned)
        self.groups_of = list(owned.values())
        self._seen: list[tuple[object, ...] | None] = [None] * len(self._numbers)
        for number, group in zip(self._numbers, self.param_groups(), strict=True):
            lr = group["lr"]
            if isinstance(lr, torch.Tensor) and not lr.is_cpu:
                raise InvalidArgument(
                    f"{where}: the learning rate must be a number or a tensor on the CPU, got a "
                    f"tensor on {lr.device}, which would have to be waited for at every step. "
                    "Make the optimizer with a float lr."
                )
            self._check_finite(number, group)

    def __len__(self) -> int:
        return len(self._numbers)

    def _check_finite(self, number: int, group: ParamGroup) -> None:
        for key in ("lr", "weight_decay"):
            value = _plain(group.get(key) or 0.0)
            if not (isinstance(value, (int, float)) and 0.0 <= value < math.inf):
                raise InvalidArgument(
                    f"{self._where}: {key} of param_groups[{number}] must be finite and >= 0, got "
                    f"{value!r}. Check what sets it: the optimizer's arguments or a scheduler."
                )

    def settings(self) -> list[HyperParameters]:
        """The current settings of each watched param group."""
        name = class_name(self._optimizer)
        return [HyperParameters.from_param_group(name, group) for group in self.param_groups()]

    def changed(self) -> Iterator[tuple[int, HyperParameters]]:
        """(index, settings) of each watched param group that changed since the last call."""
        name = class_name(self._optimizer)
        for index, group in enumerate(self.param_groups()):
            seen = tuple(_plain(group.get(key)) for key in FOLLOWED)
            if seen != self._seen[index]:
                self._check_finite(self._numbers[index], group)
                self._seen[index] = seen
                yield index, HyperParameters.from_param_group(name, group)

    def forget(self) -> None:
        """Let the next call of `changed` return every param group."""
        self._seen = [None] * len(self._seen)

    def param_groups(self) -> list[ParamGroup]:
        """The current dicts of the watched param groups, in the order of `groups_of`."""
        return [self._optimizer.param_groups[number] for number in self._numbers]


def _plain(value: object) -> object:
    return float(value) if isinstance(value, torch.Tensor) else value
