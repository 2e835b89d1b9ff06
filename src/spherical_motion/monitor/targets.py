"""Find the tensors that a monitor measures, and the optimizers that step them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from spherical_motion.binding import NamedParameters, Steppers
from spherical_motion.errors import InvalidArgument
from spherical_motion.measure.layout import check_measurable
from spherical_motion.monitor.burst import UpdatePiece
from spherical_motion.vocabulary.groups import InvariantGroup


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A monitored parameter, and the numbers of the optimizer and param group that step it."""

    parameter: torch.nn.Parameter
    optimizer: int
    param_group: int


def find_targets(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    groups: Sequence[InvariantGroup],
) -> dict[str, Target]:
    """Every parameter that the groups touch, by its name.

    Raises:
        InvalidArgument: a name the model does not have, a slice outside its tensor, a parameter
            no optimizer (or more than one) steps, a group spread over optimizers, or a tensor
            that cannot be measured.
    """
    named, steppers = NamedParameters(model), Steppers(optimizers)
    numbers = {id(optimizer): number for number, optimizer in enumerate(optimizers)}
    targets: dict[str, Target] = {}
    for group in groups:
        for s in group.slices:
            parameter = named.parameter_of(group, s, "Monitor")
            stepper = steppers.only_one(parameter, s.parameter, group, "Monitor")
            check_measurable(f"Parameter {s.parameter!r}", parameter.detach(), widened=True)
            number = numbers[id(stepper.optimizer)]
            targets[s.parameter] = Target(parameter, number, stepper.param_group)
        if len({targets[name].optimizer for name in group.parameters}) > 1:
            raise InvalidArgument(
                f"Monitor: group {group.name!r} is spread over several optimizers, which step at "
                "their own times, so it has no single step to measure. Watch its parts as groups "
                "of their own."
            )
    return targets


def stepped_groups(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    groups: Sequence[InvariantGroup],
) -> tuple[InvariantGroup, ...]:
    """The groups of which the optimizers step a member."""
    named, steppers = NamedParameters(model), Steppers(optimizers)
    return tuple(g for g in groups if any(steppers.of(named[name]) for name in g.parameters))


def pieces_of(
    groups: Sequence[InvariantGroup], targets: Mapping[str, Target]
) -> list[list[UpdatePiece]]:
    """The slices of each group with their tensors, in the group's order."""
    return [
        [
            UpdatePiece(
                targets[s.parameter].parameter,
                s.axis,
                s.start,
                s.stop,
                targets[s.parameter].param_group,
            )
            for s in group.slices
        ]
        for group in groups
    ]
