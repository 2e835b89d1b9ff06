"""Running something on a model with fixed randomness, without leaving a trace."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from spherical_motion.invariance.running.mutable_state import Remembered


@contextlib.contextmanager
def undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed all random generators; afterwards put them and the modules' attributes back.

    Restores, also after an exception: train/eval flags, hooks, every attribute of every module;
    what they hold at any depth, in plain containers and plain objects, down to tensors, arrays
    and generators; and the states of `random`, `numpy.random`, torch on the CPU and on the model's
    devices. Does not copy the values of parameters and buffers: `run_at` swaps in clones. Cannot
    reach what only functions (closures, hooks), classes, iterators or foreign modules hold.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(Remembered(model).put_back)
        stack.callback(random.setstate, random.getstate())
        # Models draw from numpy's global generator, so it is the one to restore.
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        stack.callback(torch.default_generator.set_state, torch.default_generator.get_state())
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would reach every device
        for device in _accelerators(model):
            backend = torch.get_device_module(device)
            stack.callback(backend.set_rng_state, backend.get_rng_state(device), device)
            with backend.device(device):
                backend.manual_seed(seed)
        yield


def _accelerators(model: nn.Module) -> tuple[torch.device, ...]:
    tensors = (*model.parameters(), *model.buffers())
    devices = {t.device for t in tensors if t.device.type not in ("cpu", "meta")}
    return tuple(sorted(devices, key=str))
