"""Which parameters are scale-invariant as a whole, and why the others are not.

A schedule or a decay acts on parameters, and a symmetry on groups of slices. A parameter counts as
invariant only if groups cover all of it and all members of these groups get the same treatment.
Scaling one member of a joint group alone (a weight without its bias, one of several writers to a
residual stream) changes the function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence

from torch import nn

from spherical_motion.binding.arguments import (
    MAX_DEFECT,
    as_groups,
    check_max_defect,
    why_not_invariant,
)
from spherical_motion.binding.disjoint import overlaps
from spherical_motion.binding.names import NamedParameters
from spherical_motion.vocabulary.groups import InvariantGroup, Slice


@dataclasses.dataclass(frozen=True, slots=True)
class Coverage:
    """Parameters by what can be done to them.

    Attributes:
        whole: bare name → every parameter that is invariant as a whole, tied ones once.
        reasons: bare name → why not, for every other parameter that a group touches.
        carrying: the groups that cover the whole ones; no two share entries.
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
        groups: as `find_groups` returns them; those of kind "rescale" or "plain" cover nothing,
            and neither does one that shares entries with a larger group.
        treatment: how a parameter will be stepped, as a value to compare; None if not at all. A
            group whose members differ in it covers nothing.
        max_defect: groups above it and unproven groups cover nothing; None takes all.
        where: for messages.

    Raises:
        InvalidArgument: a group names a parameter or slice that this model does not have; something
            is no group.
    """
    # An empty sequence covers nothing; a loop over models may pass one.
    if groups or not isinstance(groups, list | tuple):
        groups = as_groups(groups, where)
    groups = [group for group in groups if group.kind != "plain"]
    check_max_defect(where, max_defect)
    named = NamedParameters(model)
    touched: dict[int, str] = {}
    for group in groups:
        for piece in group.slices:
            touched.setdefault(id(named.parameter_of(group, piece, where)), piece.parameter)
    reasons: dict[str, str] = {}

    def keep(
        groups: Sequence[InvariantGroup], obstacles: Sequence[str | None]
    ) -> list[InvariantGroup]:
        """The groups without an obstacle; `reasons` gets the members of the others."""
        for group, why in zip(groups, obstacles, strict=True):
            if why:
                for name in group.parameters:
                    reasons.setdefault(touched[id(named[name])], why)
        return [group for group, why in zip(groups, obstacles, strict=True) if not why]

    kept = keep(groups, [_obstacle(group, named, treatment, max_defect) for group in groups])
    shared = overlaps(kept)
    obstacles = [
        f"group {group.name!r} {shared[number]}" if number in shared else None
        for number, group in enumerate(kept)
    ]
    # Dropping a group may leave a parameter covered in part, which drops that one's other groups.
    while True:
        kept = keep(kept, obstacles)
        covering: dict[int, list[Slice]] = {}
        for group in kept:
            for piece in group.slices:
                covering.setdefault(id(named[piece.parameter]), []).append(piece)
        obstacles = [_gap(group, named, covering) for group in kept]
        if not any(obstacles):
            break
    whole = {name: named[name] for key, name in touched.items() if key in covering}
    left = {name: why for name, why in reasons.items() if name not in whole}
    return Coverage(whole, left, tuple(kept))


def _obstacle(
    group: InvariantGroup,
    named: NamedParameters,
    treatment: Callable[[nn.Parameter], Hashable],
    max_defect: float | None,
) -> str | None:
    """Why this group cannot carry its parameters, or None."""
    if obstacle := why_not_invariant(group, max_defect):
        return obstacle[0]
    for name in group.parameters:
        if not named[name].requires_grad:
            return f"{name!r}, a member of group {group.name!r}, is frozen"
    if len({treatment(named[name]) for name in group.parameters}) > 1:
        return (
            f"the members of group {group.name!r} ({', '.join(group.parameters)}) are stepped "
            "with different settings"
        )
    return None


def _gap(
    group: InvariantGroup, named: NamedParameters, covering: Mapping[int, list[Slice]]
) -> str | None:
    """Which part of a member no group covers, or None."""
    for name in group.parameters:
        if missing := first_gap(named[name], covering[id(named[name])]):
            return f"groups cover only part of {name!r}: not {missing}"
    return None


def first_gap(parameter: nn.Parameter, pieces: Sequence[Slice]) -> str:
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
