"""Which param groups of an optimizer hold scale-invariant parameters and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spherical_motion.binding.arguments import as_groups
from spherical_motion.binding.coverage import Coverage, cover
from spherical_motion.binding.names import NamedParameters
from spherical_motion.binding.pieces import ParamGroup
from spherical_motion.binding.stepping import Steppers
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup


def invariant_param_groups(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[InvariantGroup],
    max_defect: float | None,
    where: str,
) -> dict[int, list[InvariantGroup]]:
    """The param groups that hold nothing but parameters that are invariant as a whole.

    By number, with the groups that carry their parameters. One marked `"invariant": False` is left
    alone.

    Raises:
        InvalidArgument: there is none, or one mixes invariant parameters with others; no groups,
            or those of a model that this optimizer does not step.
    """
    groups = as_groups(groups, where)
    named, steppers = NamedParameters(model), Steppers([optimizer])
    coverage = cover(model, groups, steppers.of, max_defect=max_defect, where=where)
    whole = {id(parameter) for parameter in coverage.whole.values()}
    if not any(steppers.of(named[name]) for group in groups for name in group.parameters):
        raise InvalidArgument(
            f"{where}: this optimizer steps no member of these groups (the first is "
            f"{groups[0].parameters[0]!r} of group {groups[0].name!r}). Pass the optimizer that "
            "was made from this very model's parameters (after moving or wrapping it)."
        )
    carrying: dict[int, list[InvariantGroup]] = {}
    for group in coverage.carrying:
        # All members of a group are stepped alike, so its first one shows which param group it is.
        if stepper := steppers.of(named[group.parameters[0]]):
            carrying.setdefault(stepper.param_group, []).append(group)
    chosen: dict[int, list[InvariantGroup]] = {}
    for index, param_group in enumerate(optimizer.param_groups):
        inside = [id(parameter) in whole for parameter in param_group["params"]]
        marked = param_group.get("invariant")
        if marked is False or not (any(inside) or marked):
            continue
        if not all(inside):
            foreign = [
                named.bare_name(parameter)
                for parameter, belongs in zip(param_group["params"], inside, strict=True)
                if not belongs
            ]
            where_in = f"{where}: param_groups[{index}]"
            raise InvalidArgument(_mixed(where_in, param_group, foreign, coverage))
        chosen[index] = carrying.get(index, [])
    if not chosen:
        why = next(iter(coverage.reasons.items()), None)
        raise InvalidArgument(
            f"{where}: no param group of this optimizer holds scale-invariant parameters, so "
            "there is nothing to steer. "
            + (f"{why[0]}: {why[1]}. " if why else "")
            + "Build the optimizer from split_param_groups(model, groups, ...)."
        )
    return chosen


def _mixed(where: str, param_group: ParamGroup, foreign: list[str], coverage: Coverage) -> str:
    """The message for a param group that holds `foreign` beside invariant parameters."""
    # Name parameters that a group covers only in part before parameters that no group covers.
    partial = [name for name in foreign if name in coverage.reasons]
    if param_group.get("invariant") and partial:
        return (
            f"{where} was split off as scale-invariant and holds {partial[0]!r}, which is not by "
            f"the groups given now: {coverage.reasons[partial[0]]}. Pass the same groups and "
            "max_defect here and to split_param_groups, and leave out there what is to be left "
            "out here."
        )
    reason = coverage.reasons.get(foreign[0], "no certified group touches it")
    return (
        f"{where} must hold scale-invariant parameters only, got {len(foreign)} of "
        f"{len(param_group['params'])} that are not, first {foreign[0]!r}: {reason}. "
        "Build the optimizer from split_param_groups(model, groups, ...)."
    )
