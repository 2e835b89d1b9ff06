"""Who steps what: from group members by name to tensors, optimizers and their param groups."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import check_measurable
from spherical_motion.vocabulary.groups import InvariantGroup, bare_names

__all__ = ["Ownership", "find_owners", "plain_settings", "stepped_groups"]


@dataclasses.dataclass(frozen=True, slots=True)
class Ownership:
    """One monitored parameter, and the optimizer and param group that step it (indices)."""

    parameter: torch.nn.Parameter
    optimizer: int
    param_group: int


def find_owners(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    groups: Sequence[InvariantGroup],
) -> dict[str, Ownership]:
    """For every parameter the groups touch, the tensor and who steps it.

    Raises:
        InvalidArgument: a name the model does not have, a slice outside its tensor, a parameter
            no optimizer (or more than one) steps, a group spread over optimizers, or a tensor
            that cannot be measured.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    parameters = {bare: named[name] for bare, name in bare_names(named).items()}
    steppers: dict[int, list[tuple[int, int]]] = {}
    for o, optimizer in enumerate(optimizers):
        for g, param_group in enumerate(optimizer.param_groups):
            for parameter in param_group["params"]:
                steppers.setdefault(id(parameter), []).append((o, g))
    owners: dict[str, Ownership] = {}
    for group in groups:
        for name in group.parameters:
            if name not in parameters:
                near = difflib.get_close_matches(name, parameters, n=3)
                raise InvalidArgument(
                    f"Group {group.name!r} names the parameter {name!r}, which this model does not "
                    f"have. Closest: {', '.join(near) or 'none'}. Were the groups found on another "
                    "model?"
                )
            parameter = parameters[name]
            found = steppers.get(id(parameter), [])
            if len(found) != 1:
                stepped = "none of the optimizers" if not found else f"{len(found)} param groups"
                raise InvalidArgument(
                    f"Parameter {name!r} of group {group.name!r} is stepped by {stepped}; expected "
                    "exactly one. Pass the optimizer that was made from this very model's "
                    "parameters (after moving or wrapping it)."
                )
            check_measurable(f"Parameter {name!r}", parameter.detach())
            owners[name] = Ownership(parameter, *found[0])
        _check_slices(group, owners)
    return owners


def stepped_groups(
    model: torch.nn.Module,
    optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    groups: Sequence[InvariantGroup],
) -> tuple[InvariantGroup, ...]:
    """The groups of which the optimizers step a member; all of them if they step none."""
    given = optimizers if isinstance(optimizers, Sequence) else [optimizers]
    stepped = {
        id(parameter)
        for optimizer in given
        for param_group in getattr(optimizer, "param_groups", ())
        for parameter in param_group["params"]
    }
    named = dict(model.named_parameters(remove_duplicate=False))
    moving = {bare for bare, full in bare_names(named).items() if id(named[full]) in stepped}
    kept = tuple(group for group in groups if moving & {*group.parameters})
    if kept and len(kept) < len(groups):
        left = [group.name for group in groups if group not in kept]
        print(
            f"spherical-motion: {len(left)} of {len(groups)} groups are not stepped by the "
            f"optimizer and left out: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}",
            file=sys.stderr,
        )
    return kept or tuple(groups)


def plain_settings(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """The scalar settings of every param group of every optimizer, for the run's facts."""
    return [
        {"class": type(optimizer).__name__, "optimizer": index, **_scalars(param_group)}
        for index, optimizer in enumerate(optimizers)
        for param_group in optimizer.param_groups
    ]


def _check_slices(group: InvariantGroup, owners: Mapping[str, Ownership]) -> None:
    for s in group.slices:
        shape = tuple(owners[s.parameter].parameter.shape) or (1,)
        if s.axis >= len(shape) or s.stop > shape[s.axis]:
            raise InvalidArgument(
                f"Group {group.name!r}: slice {s} does not fit a parameter of shape {shape}. "
                "Were the groups found on another model?"
            )
    if len({owners[name].optimizer for name in group.parameters}) > 1:
        raise InvalidArgument(
            f"Group {group.name!r} is spread over several optimizers, which step at their own "
            "times, so it has no single step to measure. Watch its parts as groups of their own."
        )


def _scalars(param_group: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in param_group.items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, (tuple, list)) and all(isinstance(v, (int, float)) for v in value):
            plain[key] = [float(v) for v in value]
        elif value is None or isinstance(value, (bool, int, float, str)):
            plain[key] = value
    return plain
