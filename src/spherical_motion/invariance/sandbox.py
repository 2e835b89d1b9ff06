"""Run something on a model, with fixed randomness, and leave no trace of it."""

from __future__ import annotations

import collections
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["undisturbed"]

_CONTAINERS = (dict, collections.OrderedDict, list, set, collections.deque)


@contextlib.contextmanager
def undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed all random generators; afterwards put them and the modules' attributes back.

    Restored, also after an exception: train/eval flags, hooks, every attribute of every module,
    the content of plain containers among them, and the states of `random`, `numpy.random`,
    torch on the CPU and on the model's devices, and of generators the modules hold. Values of
    parameters and buffers are not copied: whoever runs the model swaps in clones. What a model
    keeps in objects of its own, outside the modules, is out of reach.
    """
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            _remember_attributes(stack, module)
        _remember_random_states(stack, _accelerators(model))
        _seed(seed, _accelerators(model))
        yield


def _remember_attributes(stack: contextlib.ExitStack, module: nn.Module) -> None:
    attributes = vars(module)
    stack.callback(_refill, attributes, attributes.copy())
    for value in attributes.values():
        if type(value) in _CONTAINERS:
            stack.callback(_refill, value, value.copy())
        elif isinstance(value, torch.Generator):
            stack.callback(value.set_state, value.get_state())


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list | collections.deque):
        container.extend(content)
    else:
        container.update(content)


def _remember_random_states(
    stack: contextlib.ExitStack, accelerators: tuple[torch.device, ...]
) -> None:
    stack.callback(random.setstate, random.getstate())
    # The models under test draw from numpy's global generator, so that is the one to keep.
    stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
    stack.callback(torch.default_generator.set_state, torch.default_generator.get_state())
    for device in accelerators:
        backend = torch.get_device_module(device)
        stack.callback(backend.set_rng_state, backend.get_rng_state(device), device)


def _seed(seed: int, accelerators: tuple[torch.device, ...]) -> None:
    """Seed what was remembered and no more: `torch.manual_seed` would reach every device."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    for device in accelerators:
        backend = torch.get_device_module(device)
        with backend.device(device):
            backend.manual_seed(seed)


def _accelerators(model: nn.Module) -> tuple[torch.device, ...]:
    tensors = (*model.parameters(), *model.buffers())
    devices = {t.device for t in tensors if t.device.type not in ("cpu", "meta")}
    return tuple(sorted(devices, key=str))
