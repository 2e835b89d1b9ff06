"""The norm functions of PyTorch: the order of their arguments, and where their ε is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

Function: TypeAlias = Callable[..., object]
Args: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = Mapping[str, Any]
"""What a torch function mode receives of a call; its arguments may be anything."""

_BATCH = "input running_mean running_var weight bias training momentum eps"
_BATCH_ATEN = "input weight bias running_mean running_var training momentum eps"
_INSTANCE = _BATCH.replace("training", "use_input_stats")
_INSTANCE_ATEN = _BATCH_ATEN.replace("training", "use_input_stats")
_LAYER = "input normalized_shape weight bias eps"
_GROUP = "input num_groups weight bias eps"
_RMS = "input normalized_shape weight eps"

NORMS: Mapping[Function, tuple[str, tuple[str, ...]]] = {
    function: (kind, tuple(names.split()))
    for function, kind, names in (
        (F.batch_norm, "batch_norm", _BATCH),
        (F.instance_norm, "instance_norm", _INSTANCE),
        (F.layer_norm, "layer_norm", _LAYER),
        (F.group_norm, "group_norm", _GROUP),
        (F.rms_norm, "rms_norm", _RMS),
        (torch.batch_norm, "batch_norm", _BATCH_ATEN),
        (torch.instance_norm, "instance_norm", _INSTANCE_ATEN),
        (torch.layer_norm, "layer_norm", _LAYER),
        (torch.group_norm, "group_norm", _GROUP),
        (torch.rms_norm, "rms_norm", _RMS),
    )
}
"""Function → (kind, the order of its arguments)."""


def argument_of(function: Function, name: str, args: Args, kwargs: Keywords) -> Any:
    """The argument `name` of a norm call, or None."""
    order = NORMS[function][1]
    position = order.index(name) if name in order else len(args)
    return args[position] if position < len(args) else kwargs.get(name)


def uses_own_statistics(function: Function, args: Args, kwargs: Keywords) -> bool:
    """Whether the call normalizes by its input's statistics and not by running ones.

    With running statistics a batch norm is a fixed affine map: nothing in front of it is
    scale-invariant, and its ε only shapes that map.
    """
    if NORMS[function][0] == "batch_norm":
        return bool(argument_of(function, "training", args, kwargs))
    flag = argument_of(function, "use_input_stats", args, kwargs)  # only an instance norm's
    return flag is None or bool(flag)  # its default is True


def takes_machine_eps(function: Function, args: Args, kwargs: Keywords) -> bool:
    """Whether the call leaves ε to the dtype of its input, as only RMS norms can."""
    is_rms = NORMS[function][0] == "rms_norm"
    return is_rms and argument_of(function, "eps", args, kwargs) is None


def with_eps(
    function: Function, args: Args, kwargs: dict[str, Any], eps: float
) -> tuple[Args, dict[str, Any]]:
    """The arguments of a norm call with its ε replaced."""
    position = NORMS[function][1].index("eps")
    if position < len(args):
        return (*args[:position], eps, *args[position + 1 :]), kwargs
    return args, {**kwargs, "eps": eps}
