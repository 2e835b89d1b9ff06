"""From groups by name to `Members`; groups that cannot be steered are refused here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spherical_motion.binding.arguments import (
    MAX_DEFECT,
    as_groups,
    as_optimizers,
    check_max_defect,
    why_not_invariant,
)
from spherical_motion.binding.disjoint import without_overlaps
from spherical_motion.binding.members import Members
from spherical_motion.binding.names import NamedParameters
from spherical_motion.binding.pieces import Cut, Piece
from spherical_motion.binding.stepping import Steppers
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup


def bind(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    where: str = "bind",
    *,
    max_defect: float | None = MAX_DEFECT,
    mixed: bool = False,
) -> Members:
    """Find the tensors of `groups` in `model`, and who steps them.

    Args:
        model: the model whose parameters the groups name, also compiled or wrapped.
        groups: groups of kind "scale", or an `Inspection` that holds them. Of those that share
            entries only the largest is taken (see `disjoint_groups`), and a notice says so.
        optimizers: who steps them, one or several. Left out, settings are not looked up.
        where: the caller's name, for messages.
        max_defect: largest defect allowed; None takes groups as they are, unproven ones too.
        mixed: whether a group may be stepped with more than one lr or weight decay.

    Raises:
        InvalidArgument: no groups, one that is not invariant or not proven, a name or slice the
            model does not have, one tensor under two names, a parameter no optimizer steps (or
            several do), members of one group stepped with different settings.
    """
    groups = as_groups(groups, where)
    check_max_defect(where, max_defect)
    for group in groups:
        if obstacle := why_not_invariant(group, max_defect):
            raise InvalidArgument(f"{where}: {'. '.join(obstacle)}")
    steppers = None if optimizers is None else Steppers(as_optimizers(optimizers, where))
    groups = without_overlaps(groups, where)
    named = NamedParameters(model)
    cuts: dict[int, Cut] = {}
    pieces: list[list[Piece]] = []
    for number, group in enumerate(groups):
        own: list[Piece] = []
        for s in group.slices:
            parameter = named.parameter_of(group, s, where)
            name = named.full_name(s.parameter)
            if id(parameter) not in cuts:
                cuts[id(parameter)] = Cut(parameter, name, s, where)
            cuts[id(parameter)].assign(s, number, groups, where)
            stepper = steppers and steppers.only_one(parameter, name, group, where)
            own.append(Piece(parameter, s, stepper, name))
        if not mixed:
            _check_one_setting(group, own, where)
        pieces.append(own)
    return Members(groups, pieces, [cut.rows(len(groups)) for cut in cuts.values()])


def _check_one_setting(group: InvariantGroup, own: Sequence[Piece], where: str) -> None:
    """Raise unless all members are stepped with the same rate and decay."""
    first = own[0].param_group
    for piece in own[1:]:
        other = piece.param_group
        if other is first or not (first and other):
            continue  # One param group is one setting, even where its rate is NaN.
        for key in ("lr", "weight_decay"):
            if first.get(key) != other.get(key):
                raise InvalidArgument(
                    f"{where}: the members of group {group.name!r} are stepped with different "
                    f"{key}: {own[0].name!r} with {first.get(key)}, {piece.name!r} with "
                    f"{other.get(key)}. A group moves as one: put them into one param group."
                )
