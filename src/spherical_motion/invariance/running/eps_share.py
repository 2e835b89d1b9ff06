"""The part of ε in what a norm call divides by."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spherical_motion.invariance.running.norm_functions import (
    NORMS,
    Args,
    Function,
    Keywords,
    argument_of,
    uses_own_statistics,
)


def normalized_sets(function: Function, args: Args, kwargs: Keywords) -> Tensor | None:
    """The input of a norm call as (sets, values): a row for the values normalized together."""
    kind = NORMS[function][0]
    x = argument_of(function, "input", args, kwargs)
    if not isinstance(x, Tensor) or x.numel() == 0:
        return None
    x = x.detach()
    if kind == "batch_norm":
        return x.transpose(0, 1).flatten(1) if x.ndim > 2 else x.T
    if kind == "instance_norm":
        return x.flatten(2).flatten(0, 1) if x.ndim > 2 else None
    if kind == "group_norm":
        groups = argument_of(function, "num_groups", args, kwargs)
        return x.reshape(x.shape[0] * groups, -1)
    shape = argument_of(function, "normalized_shape", args, kwargs)
    return x.reshape(-1, math.prod(shape))


def share_of_eps(function: Function, args: Args, kwargs: Keywords) -> Tensor | None:
    """ε/(variance + ε), averaged over what is normalized together; None if it is not known.

    The variance is that of the input, or the running one where the call uses that.

    >>> import torch.nn.functional as F
    >>> share_of_eps(F.layer_norm, (torch.tensor([1.0, -1.0]), (2,), None, None, 1.0), {})
    tensor(0.5000)
    """
    kind = NORMS[function][0]
    x = argument_of(function, "input", args, kwargs)
    eps = argument_of(function, "eps", args, kwargs)
    if eps is None:
        eps = torch.finfo(x.dtype).eps if kind == "rms_norm" else 1e-5
    if not uses_own_statistics(function, args, kwargs):
        variance = argument_of(function, "running_var", args, kwargs)
        if not isinstance(variance, Tensor):
            return None
        variance = _at_least_single(variance.detach())
    else:
        values = normalized_sets(function, args, kwargs)
        if values is None or not values.numel():
            return None
        values = _at_least_single(values)
        if kind == "rms_norm":
            variance = values.square().mean(dim=1)
        else:
            variance = values.var(dim=1, correction=0)
    return (eps / (variance + eps)).mean()


def _at_least_single(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
