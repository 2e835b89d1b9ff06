"""Checks that a model and its inputs can be probed; errors name a remedy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from spherical_motion.errors import InvalidArgument, ModelError

QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "bitsandbytes", "torchao")
"""Modules of these packages store integers instead of weights."""


def require_model(model: object) -> None:
    """Refuse anything but an eager network that holds weights.

    Raises:
        InvalidArgument: no `nn.Module`, or a scripted one.
        ModelError: weights without a shape or without values, or integer weights.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InvalidArgument(
            f"find_groups(model=...) expects an eager torch.nn.Module, got {type(model).__name__}: "
            "compiled TorchScript cannot be probed. Pass the model it was made from."
        )
    if not isinstance(model, nn.Module):
        got = f"{type(model).__name__}."
        if isinstance(model, type):
            got = f"the class {model.__name__}. Make one: {model.__name__}(...)."
        raise InvalidArgument(f"find_groups(model=...) expects a torch.nn.Module, got {got}")
    name = type(model).__name__
    parameters = dict(model.named_parameters())
    if lazy := [n for n, p in parameters.items() if nn.parameter.is_lazy(p)]:
        raise ModelError(
            f"{name} has parameters without a shape yet ({_listed(lazy)}). Run it once on example "
            "inputs first."
        )
    if empty := [n for n, p in parameters.items() if p.is_meta]:
        raise ModelError(
            f"{name}: expected weights with values, found {len(empty)} of {len(parameters)} on the "
            f"meta device ({_listed(empty)}). Materialize and initialize it first, as with "
            "model.to_empty(device='cpu') and your initialization."
        )
    packed = [
        n
        for n, m in model.named_modules()
        if type(m).__module__.startswith(QUANTIZED) and not n.endswith("_packed_params")
    ]
    if packed:
        raise ModelError(
            f"{name}: expected floating-point weights, found quantized modules "
            f"({_listed(packed)}). Find the groups on the model before quantization."
        )


def require_inputs(example_inputs: object) -> None:
    """Refuse what cannot be arguments of a network's forward.

    Objects of other classes pass: a model may accept anything.

    Raises:
        InvalidArgument: a loader, a data set, text, numbers, an array; alone or as the only
            content of a tuple, list or mapping.
    """
    if remedy := _remedy(example_inputs):
        raise InvalidArgument(
            "find_groups(example_inputs=...) expects a tensor, or a tuple or mapping of arguments "
            f"with tensors among them, got {_named(example_inputs)}. {remedy}"
        )


def _remedy(value: object) -> str | None:
    """What to pass instead, or None if the value may be right."""
    if isinstance(value, DataLoader | Dataset):
        return "Take one batch of inputs from it, like next(iter(loader))[0]."
    if isinstance(value, np.ndarray | np.generic):
        return "Convert it: torch.from_numpy(array).float()."
    if isinstance(value, str | bytes):
        return "Tokenize it, and pass the tensors as a mapping."
    if isinstance(value, Tensor):
        return None if value.numel() else "It is empty. A few dozen real samples do."
    if value is None or isinstance(value, int | float | complex):
        return "A few dozen real samples do, like images[:32]."
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, tuple | list):
        return None
    elif value and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        return f"If this is a shape: torch.randn({', '.join(map(str, value))})."
    # A container needs a remedy if every value in it does; no arguments at all are fine.
    remedies = [_remedy(v) for v in value]
    return remedies[0] if remedies and None not in remedies else None


def _named(value: object) -> str:
    """A type, and for a container the types inside.

    >>> _named((8, 3, 32, 32)), _named({"x": "text"})
    ('a tuple of int', 'a dict of str')
    """
    if isinstance(value, Mapping | tuple | list):
        inside = value.values() if isinstance(value, Mapping) else value
        kinds = " and ".join(dict.fromkeys(type(v).__name__ for v in inside))
        return f"a {type(value).__name__} of {kinds}"
    return type(value).__name__


def _listed(names: list[str]) -> str:
    shown = ", ".join(n or "the model itself" for n in names[:3])
    return shown + (", ..." if len(names) > 3 else "")
