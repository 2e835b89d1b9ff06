"""Scale-invariant parameters in param groups of their own, so that they can be steered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding.arguments import MAX_DEFECT
from spherical_motion.binding.coverage import cover
from spherical_motion.binding.pieces import ParamGroup
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
    Frozen and tied parameters are treated as by torch: the
    frozen stay in, among the others, the tied appear once.

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
        InvalidArgument: groups of another model, or something else than groups; a parameter given
            twice; a dict without "params".

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
            half = {"params": [param_group["params"][i] for i in chosen]}
            if "param_names" in param_group:
                half["param_names"] = [param_group["param_names"][i] for i in chosen]
            result.append({**half, **defaults, **settings, **(own or {}), "invariant": flag})
    if coverage.reasons:
        kept = [f"{name} ({why})" for name, why in coverage.reasons.items()]
        notify(
            f"{len(kept)} parameters with invariant parts keep their ordinary settings: "
            f"{listed(kept)}"
        )
    return result


def _as_dicts(
    model: nn.Module,
    params: torch.optim.Optimizer | Iterable[Any] | None,
) -> list[ParamGroup]:
    if isinstance(params, torch.optim.Optimizer):
        return [dict(param_group) for param_group in params.param_groups]
    if isinstance(params, torch.Tensor | Mapping):
        params = [params]
    if params is not None and not isinstance(params, Iterable):
        raise InvalidArgument(
            "split_param_groups(params=...) expects an optimizer, parameters or dicts with "
            f"'params', got {params!r}. Left out, it is model.parameters()."
        )
    entries = list(model.parameters() if params is None else params)
    if not all(isinstance(entry, Mapping) for entry in entries):
        entries = [{"params": entries}]
    dicts = []
    for entry in entries:
        if "params" not in entry:
            raise InvalidArgument(
                "split_param_groups(params=...): a dict must have 'params' beside its settings, "
                f"got the keys {[*entry]}. Settings for all go as keywords: lr=..., "
                "weight_decay=...."
            )
        members = entry["params"]
        members = [members] if isinstance(members, torch.Tensor) else list(members)
        for member in members:
            if not isinstance(member, torch.Tensor):
                raise InvalidArgument(
                    "split_param_groups(params=...) expects an optimizer, parameters or dicts "
                    f"with 'params', got a {type(member).__name__} among the parameters. "
                    "Names are not needed: pass model.parameters()."
                )
        dicts.append({**entry, "params": members})
    return dicts
