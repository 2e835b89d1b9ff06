"""The one way to run a model at other weights than its own, without leaving a trace."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from spherical_motion.errors import SphericalMotionError
from spherical_motion.invariance.running.calling import (
    call_model,
    float_outputs,
    model_failure,
    widened,
)
from spherical_motion.invariance.running.interception import (
    Interception,
    Observer,
    adapt_attributes,
    without_compilation,
)
from spherical_motion.invariance.running.mutable_state import Remembered
from spherical_motion.invariance.running.subject import Subject, Weights

Body: TypeAlias = Callable[[nn.Module, object], tuple[Tensor, ...]]
"""Runs on a model and its inputs while the other weights are in place."""


def outputs_only(model: nn.Module, inputs: object) -> tuple[Tensor, ...]:
    """The floating outputs of a forward without gradients."""
    with torch.no_grad():
        return float_outputs(call_model(model, inputs))


def run_at(
    subject: Subject,
    weights: Weights,
    body: Body = outputs_only,
    *,
    seed: int,
    norm_eps: float | None,
    eps_of_running: bool = False,
    buffers: dict[str, Tensor] | None = None,
    training: bool | None = None,
    observer: Observer | None = None,
) -> tuple[Tensor, ...]:
    """Run a model at other weights, in the subject's dtype, and leave no trace on it.

    `functional_call` swaps weights and buffers, which also follows tied weights and
    parametrizations; `undisturbed` restores everything else.

    Args:
        subject: the model and its inputs.
        weights: replace the parameters.
        body: is called with the model and converted inputs; runs the forward, and more if needed.
        seed: of the randomness inside the model.
        norm_eps: takes the place of the norm layers' ε; None keeps the model's own.
        eps_of_running: also in norm layers that use running statistics.
        buffers: replace the buffers, and end as the forward leaves them; None: copies.
        training: False runs the model in eval mode, True puts one that is in eval mode as a whole
            into training mode; None leaves its modules as they are.
        observer: follows the norm layers.

    Returns:
        What `body` returns, detached.

    Raises:
        ModelError: the model fails on its inputs.

    >>> subject = Subject(nn.Linear(2, 1, bias=False), torch.ones(1, 2), torch.float64)
    >>> run_at(subject, {"weight": torch.tensor([[3.0, 4.0]]).double()}, seed=0, norm_eps=None)
    (tensor([[7.]], dtype=torch.float64),)
    """
    model, dtype = subject.model, subject.dtype
    _return_freed_memory()
    buffers = subject.buffers() if buffers is None else buffers
    swapped = {f"model.{subject.names[name]}": leaf for name, leaf in weights.items()}
    swapped |= {f"model.{name}": buffer for name, buffer in buffers.items()}
    if observer is not None:
        observer.names = {id(leaf): name for name, leaf in weights.items()}
    default_dtype = torch.get_default_dtype()
    with undisturbed(model, seed):
        if training is not None and (not training or not model.training):
            model.train(training)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                torch.set_default_dtype(dtype)
                adapt_attributes(model, dtype, norm_eps)
                if observer is not None:
                    observer.attach(model)
                harness, inputs = _Harness(model), widened(subject.inputs, dtype)
                with (
                    without_compilation(),
                    torch.autocast(subject.device_type, enabled=False),
                    Interception(dtype, norm_eps, subject.native_dtype, observer, eps_of_running),
                ):
                    outputs = functional_call(harness, swapped, (body, inputs))
        except SphericalMotionError:
            raise
        except Exception as error:  # whatever the model's code may raise
            raise model_failure(model, subject.inputs, dtype, error) from error
        finally:
            torch.set_default_dtype(default_dtype)
    # functional_call leaves in `swapped` what the forward assigned to the buffers.
    buffers.update({name: swapped[f"model.{name}"] for name in buffers})
    return tuple(y.detach() for y in outputs)


class _Harness(nn.Module):
    """Passes the model to a function, so that its backward runs while the weights are swapped.

    Non-reentrant gradient checkpointing calls the model again during backward, and must find the
    same weights there.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, body: Body, inputs: object) -> tuple[Tensor, ...]:
        return body(self.model, inputs)


def _return_freed_memory() -> None:
    """Return freed memory that the C library still holds to the system; glibc only.

    glibc keeps freed blocks below 32 MiB in its heap. For a large network these took as much memory
    again as the weights.
    """
    if (trim := _malloc_trim()) is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None


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
