"""Which parameters are scale-invariant as a whole, and what keeps the others from it.

A schedule or a decay acts on parameters, a symmetry on groups of slices. What may be done to a
parameter because of the symmetry takes that groups cover all of it, and that each of these groups
lies, with all its members, among parameters that get the same treatment: scaled alone, one member
of a joint group (a weight without its bias, one of several writers to a residual stream) changes
the function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding.arguments import as_groups, check_max_defect
from spherical_motion.binding.disjoint import overlaps
from spherical_motion.binding.members import MAX_DEFECT, fitting_parameter
from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary.groups import InvariantGroup, Slice, bare_names, strip_wrappers

__all__ = ["Coverage", "cover", "invariant_param_groups"]


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """Parameters by what can be done to them.

    Attributes:
        whole: bare name → tensor, for every parameter that is invariant as a whole. Tied
            parameters are there once.
        reasons: bare name → why not, for every parameter that some group touches and that is
            not whole.
        carrying: the groups that cover them; no two share entries.
    """

    whole: Mapping[str, nn.Parameter]
    reasons: Mapping[str, str]
    carrying: tuple[InvariantGroup, ...]


def cover(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    treatment: Callable[[nn.Parameter], Hashable] = lambda parameter: None,
    *,
    max_defect: float | None = MAX_DEFECT,
    where: str = "split_param_groups",
) -> Coverage:
    """Find the parameters that groups of kind "scale" cover entirely.

    Args:
        model: whose parameters the groups name.
        groups: as `find_groups` returns them; those of kind "rescale" cover nothing, nor does one
            that shares entries with a larger group.
        treatment: what is going to be done to a parameter, as a value to compare; None for one
            that is not stepped at all. A group whose members differ in it covers nothing.
        max_defect: groups above it, and groups nobody has proven, cover nothing; None takes all.
        where: for messages.

    Raises:
        InvalidArgument: a group names a parameter this model does not have, or a slice outside it;
            something that is no group.
    """
    # Of no groups everything goes to the others, which a loop over models may well come to.
    none = isinstance(groups, list | tuple) and not groups
    groups = groups if none else as_groups(groups, where)
    check_max_defect(where, max_defect)
    named = dict(model.named_parameters(remove_duplicate=False))
    parameters = {bare: named[full] for bare, full in bare_names(named).items()}
    covering: dict[int, list[Slice]] = {}
    reasons: dict[str, str] = {}
    touched: dict[int, str] = {}
    for group in groups:
        for piece in group.slices:
            fitting_parameter(group, piece, parameters, where)
        for name in group.parameters:
            touched.setdefault(id(parameters[name]), name)

    def drop(group: InvariantGroup, why: str) -> None:
        for name in group.parameters:
            reasons.setdefault(touched[id(parameters[name])], why)

    pending = []
    for group in groups:
        why = _obstacle(group, parameters, treatment, max_defect)
        if why is None:
            pending.append(group)
        else:
            drop(group, why)
    shared = overlaps(pending)
    for number, why in shared.items():
        drop(pending[number], f"group {pending[number].name!r} {why}")
    pending = [group for number, group in enumerate(pending) if number not in shared]
    # A parameter that turns out partial takes its groups with it, and they their members.
    while True:
        covering.clear()
        for group in pending:
            for piece in group.slices:
                covering.setdefault(id(parameters[piece.parameter]), []).append(piece)
        kept = []
        for group in pending:
            why = _gap(group, parameters, covering)
            if why is None:
                kept.append(group)
            else:
                drop(group, why)
        if len(kept) == len(pending):
            break
        pending = kept
    whole = {name: parameters[name] for key, name in touched.items() if key in covering}
    left = {name: why for name, why in reasons.items() if name not in whole}
    return Coverage(whole, left, tuple(pending))


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
    param_groups = optimizer.param_groups
    home = {id(p): i for i, group in enumerate(param_groups) for p in group["params"]}
    coverage = cover(model, groups, lambda p: home.get(id(p)), max_defect=max_defect, where=where)
    whole = {id(parameter) for parameter in coverage.whole.values()}
    named = dict(model.named_parameters(remove_duplicate=False))
    full = bare_names(named)
    if not any(id(named[full[name]]) in home for group in groups for name in group.parameters):
        raise InvalidArgument(
            f"{where}: this optimizer steps no member of these groups (the first is "
            f"{groups[0].parameters[0]!r} of group {groups[0].name!r}). Pass the optimizer that "
            "was made from this very model's parameters (after moving or wrapping it)."
        )
    chosen: dict[int, list[InvariantGroup]] = {}
    for index, group in enumerate(param_groups):
        inside = [id(parameter) in whole for parameter in group["params"]]
        if group.get("invariant") is False or not (any(inside) or group.get("invariant")):
            continue
        if not all(inside):
            raise InvalidArgument(_mixed(index, group, whole, model, coverage, where))
        chosen[index] = [
            # Members of one group are all stepped alike, so the first speaks for them.
            carrying
            for carrying in coverage.carrying
            if home.get(id(named[full[carrying.parameters[0]]])) == index
        ]
    if not chosen:
        why = next(iter(coverage.reasons.items()), None)
        raise InvalidArgument(
            f"{where}: no param group of this optimizer holds scale-invariant parameters, so "
            "there is nothing to steer. "
            + (f"{why[0]}: {why[1]}. " if why else "")
            + "Build the optimizer from split_param_groups(model, groups, ...)."
        )
    return chosen


def _mixed(
    index: int,
    group: Mapping[str, Any],
    whole: set[int],
    model: nn.Module,
    coverage: Coverage,
    where: str,
) -> str:
    named = {id(p): name for name, p in model.named_parameters()}
    foreign = [named.get(id(p), "?") for p in group["params"] if id(p) not in whole]
    # One that a group touches tells more than one that none does.
    touched = [name for name in foreign if strip_wrappers(name) in coverage.reasons]
    if group.get("invariant") and touched:
        return (
            f"{where}: param_groups[{index}] was split off as scale-invariant and holds "
            f"{touched[0]!r}, which is not by the groups given now: "
            f"{coverage.reasons[strip_wrappers(touched[0])]}. Pass the same groups and max_defect "
            "here and to split_param_groups, and leave out there what is to be left out here."
        )
    reason = coverage.reasons.get(strip_wrappers(foreign[0]), "no certified group touches it")
    return (
        f"{where}: param_groups[{index}] must hold scale-invariant parameters only, got "
        f"{len(foreign)} of {len(group['params'])} that are not, first {foreign[0]!r}: {reason}. "
        "Build the optimizer from split_param_groups(model, groups, ...)."
    )


def _obstacle(
    group: InvariantGroup,
    parameters: Mapping[str, nn.Parameter],
    treatment: Callable[[nn.Parameter], Hashable],
    max_defect: float | None,
) -> str | None:
    """Why this group cannot carry its parameters, or None."""
    if group.kind != "scale":
        return f"group {group.name!r} is a rescaling symmetry, not an invariance"
    if max_defect is not None and not group.proven:
        return f"nobody has proven group {group.name!r} (its defect is unknown)"
    if max_defect is not None and not group.defect <= max_defect:
        return f"group {group.name!r} has a defect of {group.defect:.3g}, above {max_defect:g}"
    members = [parameters[name] for name in group.parameters]
    for name, member in zip(group.parameters, members, strict=True):
        if not member.requires_grad:
            return f"{name!r}, a member of group {group.name!r}, is frozen"
    if len({treatment(member) for member in members}) > 1:
        return (
            f"the members of group {group.name!r} ({', '.join(group.parameters)}) are stepped "
            "with different settings"
        )
    return None


def _gap(
    group: InvariantGroup,
    parameters: Mapping[str, nn.Parameter],
    covering: Mapping[int, list[Slice]],
) -> str | None:
    """Which part of a member no group covers, or None."""
    for name in group.parameters:
        missing = _missing(parameters[name], covering[id(parameters[name])])
        if missing:
            return f"groups cover only part of {name!r}: not {missing}"
    return None


def _missing(parameter: nn.Parameter, pieces: Sequence[Slice]) -> str:
    """The first stretch no slice covers, along the axis that is covered best; "" if none."""
    shape = tuple(parameter.shape) or (1,)
    gaps = []
    for axis in {piece.axis for piece in pieces}:
        reached = 0
        ranges = sorted((p.start, p.stop) for p in pieces if p.axis == axis)
        for start, stop in [*ranges, (shape[axis], shape[axis])]:
            if start > reached:
                gaps.append((reached, axis, start))
                break
            reached = max(reached, stop)
        else:
            return ""
    start, axis, stop = max(gaps)
    return f"{start}:{stop} along axis {axis}"
