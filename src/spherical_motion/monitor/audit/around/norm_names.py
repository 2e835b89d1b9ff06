"""The names of the norm layers that parameters feed, and their ε."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from spherical_motion.invariance import unwrapped
from spherical_motion.monitor.audit.around.norm_layers import Fed
from spherical_motion.vocabulary.groups import strip_wrappers

EPSILONS = ("eps", "variance_epsilon", "epsilon")
"""What norm layers call their ε."""


def named_norms(
    model: nn.Module, fed: Fed | str, parameters: Iterable[str]
) -> dict[str, tuple[tuple[str, float | None], ...]]:
    """(name, ε) of each norm layer that a parameter feeds; without those of which none is known.

    >>> from spherical_motion.invariance import norms_fed
    >>> import torch
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, eps=0.1))
    >>> named_norms(net, norms_fed(net, torch.randn(8, 3)), ["0.weight"])
    {'0.weight': (('1', 0.1),)}
    """
    if isinstance(fed, str):
        return {}
    modules = {strip_wrappers(name): module for name, module in unwrapped(model).named_modules()}
    found = {}
    for parameter in parameters:
        names = dict.fromkeys(norm.module for norm in fed.get(parameter, ()))
        layers = tuple((name, _epsilon(modules[name])) for name in names if name in modules)
        if layers:
            found[parameter] = layers
    return found


def _epsilon(module: nn.Module) -> float | None:
    found = (getattr(module, name, None) for name in EPSILONS)
    return next((float(eps) for eps in found if isinstance(eps, float) and 0 < eps < 1e300), None)
