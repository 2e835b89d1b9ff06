"""Which groups `watch` watches: certified ones, every other matrix, or a list."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Literal

import torch

from spherical_motion.binding import as_groups, with_plain
from spherical_motion.errors import InvalidArgument, ModelError
from spherical_motion.invariance import Inspection, closest, inspect_model, why_nothing
from spherical_motion.monitor.targets import stepped_groups
from spherical_motion.notices import listed, near, notify
from spherical_motion.vocabulary.groups import InvariantGroup

CHOICES = ("certified", "all", "plain")


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What a user asked `watch` to watch; the fields are arguments of `watch`."""

    groups: str | Sequence[InvariantGroup]
    example_inputs: object
    granularity: Literal["layer", "filter"]
    vectors: bool
    quiet: bool


def chosen_groups(
    model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], choice: Choice
) -> Sequence[InvariantGroup]:
    """The groups to watch; a notice if the granularity does not matter to them.

    Raises:
        InvalidArgument: an unknown choice, missing inputs, nothing that can be watched.
        ModelError: the model cannot be probed.
    """
    groups = _chosen(model, optimizers, choice)
    if choice.granularity == "filter" and not any(group.cells for group in groups):
        notify(
            "granularity='filter' divides certified groups only, and none is watched",
            quiet=choice.quiet,
        )
    return groups


def _chosen(
    model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], choice: Choice
) -> Sequence[InvariantGroup]:
    given = choice.groups
    if not isinstance(given, str):
        return as_groups(given, "watch")
    check_choice(given)

    def plain(certified: Sequence[InvariantGroup] = ()) -> tuple[InvariantGroup, ...]:
        """The groups that are certified, if they can be watched, and all other matrices."""
        return with_plain(
            model,
            optimizers,
            certified,
            vectors=choice.vectors,
            where="watch",
            quiet=choice.quiet,
        )

    if given == "plain":
        _check_no_path(choice.example_inputs)
        return plain()
    inspection = _inspected(model, choice)
    if given == "all":
        return plain(inspection.groups)
    if not inspection.groups:
        groups = plain()
        notify(_why_plain(model, inspection, groups), quiet=choice.quiet)
        return groups
    return _stepped(model, optimizers, inspection.groups, choice.quiet)


def check_choice(given: object) -> str:
    """`given`, checked to be one of the words that `watch` takes.

    Raises:
        InvalidArgument: it is not.
    """
    if isinstance(given, str) and given in CHOICES:
        return given
    raise InvalidArgument(
        "watch(groups=...) must be 'certified', 'all', 'plain' or a list of groups, got "
        f"{given!r}.{near(str(given), CHOICES)}"
    )


def _check_no_path(example_inputs: object) -> None:
    """Refuse a path in the place of inputs that are not needed: it is meant as the directory."""
    if isinstance(example_inputs, str | os.PathLike):
        raise InvalidArgument(
            f"watch(example_inputs=...) got the path {os.fspath(example_inputs)!r}. Without inputs "
            "name the directory: watch(model, optimizer, directory=..., groups='plain')."
        )


def _inspected(model: torch.nn.Module, choice: Choice) -> Inspection:
    """The probed model; errors name the way without a probe."""
    if choice.example_inputs is None:
        raise InvalidArgument(
            f"watch(groups={choice.groups!r}) needs example_inputs, a batch to probe the model "
            "with, got none. Pass one, like images[:32]; or watch(model, optimizer, "
            "groups='plain') watches every matrix without a probe."
        )
    try:
        return inspect_model(model, choice.example_inputs, choice.granularity)
    except ModelError as error:
        raise ModelError(
            f"{error} To watch every matrix without a probe, pass groups='plain'."
        ) from error


def _why_plain(
    model: torch.nn.Module, inspection: Inspection, groups: Sequence[InvariantGroup]
) -> str:
    """One line: nothing is certified, why, and what would change it."""
    watched = {name for group in groups for name in group.parameters}
    why, remedy = why_nothing(inspection.uncovered)
    nearest = closest(inspection.uncovered, watched)
    return (
        f"nothing in {type(model).__name__} is scale-invariant, so its stepped matrices are "
        f"watched as plain groups: {why}{f'; closest is {nearest}' if nearest else ''}. {remedy}"
    )


def _stepped(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    certified: Sequence[InvariantGroup],
    quiet: bool,
) -> Sequence[InvariantGroup]:
    """The certified groups of which the optimizers step a member; a notice names the others."""
    # If the optimizers step no group at all, Monitor raises and says so.
    groups = stepped_groups(model, optimizers, certified) or certified
    if left := [group.name for group in certified if group not in groups]:
        notify(
            f"{len(left)} of {len(certified)} groups are not stepped by the optimizer and left "
            f"out: {listed(left, most=5)}",
            quiet=quiet,
        )
    return groups
