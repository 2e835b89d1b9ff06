"""The parameters, settings and checkpoints that an optimizer on the sphere accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from spherical_motion.binding import Members, check_state
from spherical_motion.checks import number
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim.steering import ParamGroup

VECTORS = ("group_moment", "group_radius", "group_steps")
"""State of a whole param group, one number a group."""


def two_param_groups(
    model: nn.Module, members: Members, own: ParamGroup, rest: ParamGroup
) -> list[ParamGroup]:
    """Param groups of the parameters that a group touches, stepped as `own`, and of the others."""
    steered = {id(p) for p in members.parameters}
    others = [p for p in model.parameters() if id(p) not in steered]
    return [{"params": list(members.parameters), **own, "others": 1}, {"params": others, **rest}]


def check_real(where: str, param_groups: Sequence[ParamGroup]) -> None:
    """Raise InvalidArgument for parameters that these optimizers cannot step."""
    for group in param_groups:
        for parameter in group["params"]:
            if parameter.is_complex():
                raise InvalidArgument(
                    f"{where}: parameters must be real, got one of {parameter.dtype} and shape "
                    f"{tuple(parameter.shape)}. Step complex ones with torch.optim.SGD."
                )
            precise = parameter.dtype in (torch.float32, torch.float64)
            if group.get("others") is not None and not precise:
                raise InvalidArgument(
                    f"{where}: invariant parameters must be float32 or float64, got "
                    f"{parameter.dtype}, whose spacing is wider than a step. Keep float32 weights "
                    "and compute under torch.autocast."
                )


def common_settings(
    where: str, radius: float | None, maximize: bool, foreach: bool | None, fused: bool | None
) -> ParamGroup:
    """The settings of every param group; checks the radius too."""
    if radius is not None:
        remedy = "Leave it out to keep the norm each group has."
        number(where, "radius", radius, above=0.0, remedy=remedy)
    if foreach and fused:
        raise InvalidArgument(f"{where}: foreach and fused cannot both be True. Leave one out.")
    return {"maximize": maximize, "foreach": foreach, "fused": fused}


def check_loadable(
    where: str,
    state_dict: Mapping[str, Any],
    param_groups: Sequence[ParamGroup],
    members: Mapping[int, Members],
) -> None:
    """Raise InvalidArgument unless the state was saved from an optimizer like this one.

    `members` holds the groups of each param group, by its number.
    """
    check_state(where, state_dict, ("state", "param_groups"))
    rules = [(g.get("rule"), g.get("follows")) for g in state_dict["param_groups"]]
    mine = [(g["rule"], g.get("follows")) for g in param_groups]
    if rules != mine:
        raise InvalidArgument(
            f"{where}.load_state_dict: expected param groups with the rules {_words(mine)}, got "
            f"{_words(rules)}. Load what {where} itself saved; make it as it was made then."
        )
    # A checkpoint that was repacked as torch's may have lost the names.
    names = state_dict.get("group_names", {})
    for index, own in members.items():
        # Through JSON keys become strings.
        saved = names.get(index, names.get(str(index), list(own.names)))
        if list(saved) != list(own.names):
            raise InvalidArgument(
                f"{where}.load_state_dict: expected the state of {len(own)} groups "
                f"{list(own.names)[:3]}..., got that of {len(saved)}: {list(saved)[:3]}... "
                "Use the groups it was saved with."
            )
        held = state_dict["param_groups"][index]["params"]
        kept = state_dict["state"].get(held[0], {}) if held else {}
        for key in VECTORS:
            if key in kept and tuple(kept[key].shape) != (len(own),):
                raise InvalidArgument(
                    f"{where}.load_state_dict: {key!r} must hold one number for each of "
                    f"{len(own)} groups, got shape {tuple(kept[key].shape)}. Use the "
                    "groups it was saved with."
                )


def _words(rules: Sequence[tuple[object, object]]) -> str:
    return str([f"{rule} (from {follows})" if follows else str(rule) for rule, follows in rules])
