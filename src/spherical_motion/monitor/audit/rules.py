"""What the rule of an optimizer is: a function of weights, gradient, state and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from spherical_motion.vocabulary.hyperparameters import ParamGroup

State: TypeAlias = dict[str, Any]
"""The state of one parameter: copies that a rule may change."""

Step: TypeAlias = Callable[[torch.Tensor, torch.Tensor, State, Mapping[str, Any]], torch.Tensor]
"""(weights, gradient, state, settings) → the weights after the step.

All tensors are copies in one dtype: float64, and once more the dtype of the weights, which shows
what rounding does. The state is filled in where the optimizer would do so.
"""


class NotReplayed(Exception):
    """A step cannot be replayed; the text says why, to stand behind the name of an optimizer."""


def plain_settings(group: ParamGroup, dtype: torch.dtype) -> Mapping[str, Any]:
    """The settings of a param group with numbers for tensors of one entry."""
    return {name: as_number(value) for name, value in group.items() if name != "params"}


@dataclasses.dataclass(frozen=True, slots=True)
class StepRule:
    """The rule of an optimizer.

    Attributes:
        step: makes the step of one parameter.
        settings: makes the settings that `step` reads of a param group and the dtype of the
            weights; raises NotReplayed where it does not know them.
        elementwise: no entry depends on another, so that `step` may be given parts of a tensor.
        jumps: of the arguments of `step`, the sum of squares that entries may add whose step
            changes by more than rounding if their sum is rounded; None if there are none.
        coarse: the dtype in which a part of the step is computed, if not that of the weights.
    """

    step: Step
    settings: Callable[[ParamGroup, torch.dtype], Mapping[str, Any]] = plain_settings
    elementwise: bool = False
    jumps: Callable[[torch.Tensor, torch.Tensor, State, Mapping[str, Any]], float] | None = None
    coarse: torch.dtype | None = None


def as_number(value: object) -> object:
    """A setting with numbers in place of tensors of one entry, also in a tuple."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, tuple | list):
        return tuple(as_number(entry) for entry in value)
    return value
