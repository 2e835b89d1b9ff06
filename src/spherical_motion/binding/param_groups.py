"""Param groups that hold scale-invariant parameters alone: make them, and find them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding.arguments import MAX_DEFECT, as_groups, why_not_invariant
from spherical_motion.binding.coverage import Coverage, cover
from spherical_motion.binding.names import NamedParameters
from spherical_motion.binding.pieces import ParamGroup
from spherical_motion.binding.stepping import Steppers
from spherical_motion.errors import InvalidArgument
from spherical_motion.notices import listed, notify
from spherical_motion.vocabulary.groups import InvariantGroup


def split_param_groups(
    model: nn.Module,
    groups: Sequence[InvariantGroup],
    params: torch.optim.Optimizer | Iterable[Any] | None = None,
    *,
    invariant: Mapping[str, object] | None = None,
    others: Mapping[str, object] | None = None,
    max_defect: float | None = MAX_DEFECT,
    **defaults: object,
) -> list[ParamGroup]:
    """Param groups for an optimizer, with the scale-invariant parameters apart from the others.

    Each param group of `params` is split in two, marked by `"invariant": True` or `False`, which
    torch keeps beside `lr`; an empty half is left out. Settings stay as they were, so training is
    the same until something acts on one half only: `ExponentialSchedule`, `ProportionalDecay`.

    A parameter counts as invariant if certified groups cover all of it, and every member of these
    groups lies in the same param group of `params`. One that is covered in part, or shares a group
    with a frozen or differently stepped one, goes to the others; a notice names it and says why.
    As in torch, frozen parameters stay in (among the others) and tied ones appear once.

    Args:
        model: whose parameters `groups` names.
        groups: as `find_groups` returns them, at either granularity.
        params: an optimizer, its param groups or parameters; left out, `model.parameters()`.
        invariant: settings for the invariant halves, over `defaults`.
        others: settings for the other halves, say `{"weight_decay": 0.0}`, over `defaults`.
        max_defect: groups with a larger defect count as not invariant; None takes all.
        **defaults: settings for both, where `params` has none of its own.

    Returns:
        A list of dicts for any `torch.optim.Optimizer`; parameters in their original order.

    Raises:
        InvalidArgument: groups of another model, or no groups; a parameter given twice; a dict
            without "params".

    >>> from spherical_motion import find_groups
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 2))
    >>> groups = find_groups(model, torch.randn(16, 4))
    >>> split = split_param_groups(model, groups, lr=0.1, weight_decay=5e-4)
    >>> [(g["invariant"], len(g["params"]), g["weight_decay"]) for g in split]
    [(True, 1, 0.0005), (False, 4, 0.0005)]
    >>> optimizer = torch.optim.SGD(split, momentum=0.9)
    """
    given = _as_dicts(model, params)
    home: dict[int, int] = {}
    for index, param_group in enumerate(given):
        for parameter in param_group["params"]:
            if id(parameter) in home:
                raise InvalidArgument(
                    "split_param_groups(params=...): a parameter of shape "
                    f"{tuple(parameter.shape)} is given twice. Give each once; tied ones too."
                )
            home[id(parameter)] = index
    coverage = cover(model, groups, lambda p: home.get(id(p)), max_defect=max_defect)
    whole = {id(parameter) for parameter in coverage.whole.values()}
    result: list[ParamGroup] = []
    for param_group in given:
        settings = {k: v for k, v in param_group.items() if k not in ("params", "param_names")}
        for flag, own in ((True, invariant), (False, others)):
            chosen = [i for i, p in enumerate(param_group["params"]) if (id(p) in whole) is flag]
            if not chosen:
                continue
            lists = [key for key in ("params", "param_names") if key in param_group]
            half = {key: [param_group[key][i] for i in chosen] for key in lists}
            result.append({**half, **defaults, **settings, **(own or {}), "invariant": flag})
    if coverage.reasons:
        kept = [f"{name} ({why})" for name, why in coverage.reasons.items()]
        notify(
            f"{len(kept)} parameters with invariant parts keep their ordinary settings: "
            f"{listed(kept, separator='; ')}"
        )
    return result


def _as_dicts(
    model: nn.Module, params: torch.optim.Optimizer | Iterable[Any] | None
) -> list[ParamGroup]:
    if isinstance(params, torch.optim.Optimizer):
        return [dict(param_group) for param_group in params.param_groups]
    if isinstance(params, torch.Tensor | Mapping):
        params = [params]
    where = "split_param_groups(params=...)"
    expected = f"{where} expects an optimizer, parameters or dicts with 'params'"
    if params is not None and not isinstance(params, Iterable):
        raise InvalidArgument(f"{expected}, got {params!r}. Left out, it is model.parameters().")
    entries = list(model.parameters() if params is None else params)
    if not all(isinstance(entry, Mapping) for entry in entries):
        entries = [{"params": entries}]
    dicts = []
    for entry in entries:
        if "params" not in entry:
            raise InvalidArgument(
                f"{where}: a dict must have 'params' beside its settings, got the keys "
                f"{[*entry]}. Settings for all go as keywords: lr=..., weight_decay=...."
            )
        members = entry["params"]
        members = [members] if isinstance(members, torch.Tensor) else list(members)
        if foreign := [member for member in members if not isinstance(member, torch.Tensor)]:
            raise InvalidArgument(
                f"{expected}, got a {type(foreign[0]).__name__} among the parameters. Names are "
                "not needed: pass model.parameters()."
            )
        dicts.append({**entry, "params": members})
    return dicts


def invariant_param_groups(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    groups: Sequence[InvariantGroup],
    max_defect: float | None,
    where: str,
) -> dict[int, list[InvariantGroup]]:
    """The param groups that hold nothing but parameters that are invariant as a whole.

    By number, with the groups that cover their parameters. Those marked `"invariant": False` are
    left out.

    Raises:
        InvalidArgument: there is none, or one mixes invariant parameters with others; no groups,
            plain ones only, or those of a model that this optimizer does not step.
    """
    groups = as_groups(groups, where)
    if all(group.kind == "plain" for group in groups):
        raise InvalidArgument(f"{where}: {'. '.join(why_not_invariant(groups[0], None) or ())}")
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
        # One param group steps all members of a group: look up the first member's.
        if stepper := steppers.of(named[group.parameters[0]]):
            carrying.setdefault(stepper.param_group, []).append(group)
    chosen: dict[int, list[InvariantGroup]] = {}
    for index, param_group in enumerate(optimizer.param_groups):
        params, marked = param_group["params"], param_group.get("invariant")
        foreign = [named.bare_name(p) for p in params if id(p) not in whole]
        if marked is False or not (len(foreign) < len(params) or marked):
            continue
        if foreign:
            where_in = f"{where}: param_groups[{index}]"
            raise InvalidArgument(_mixed(where_in, param_group, foreign, coverage))
        chosen[index] = carrying.get(index, [])
    if not chosen:
        why = "".join(f"{name}: {why}. " for name, why in [*coverage.reasons.items()][:1])
        raise InvalidArgument(
            f"{where}: no param group of this optimizer holds scale-invariant parameters, so "
            f"there is nothing to steer. {why}Build the optimizer from "
            "split_param_groups(model, groups, ...)."
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
            "max_defect here and to split_param_groups; leave a group out of both or of neither."
        )
    reason = coverage.reasons.get(foreign[0], "no certified group touches it")
    return (
        f"{where} must hold scale-invariant parameters only, got {len(foreign)} of "
        f"{len(param_group['params'])} that are not, first {foreign[0]!r}: {reason}. "
        "Build the optimizer from split_param_groups(model, groups, ...)."
    )
