"""What is changed under a model's hands while it is probed: norm ε, casts, odd attributes."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spherical_motion.invariance.running.literal_eps import LiteralEps
from spherical_motion.invariance.running.norm_functions import (
    NORMS,
    takes_machine_eps,
    uses_own_statistics,
    with_eps,
)
from spherical_motion.invariance.running.observing import Observer

__all__ = ["Interception", "adapt_attributes", "without_compilation"]

_EPS_NAME = re.compile(r"(^|_)eps(ilon)?(_|\d|$)")
_LARGEST_EPS = 0.1
_CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.double)


class Interception(TorchFunctionMode):
    """Runs every torch function in one dtype and, on request, with another norm ε.

    A norm layer that upcasts to float32 by itself would leave a defect of 4e-8, far above what
    tells a true group from a false one; so casts to a floating type become casts to `dtype`.

    Args:
        dtype: the floating type that every cast and every factory function is led to.
        norm_eps: ε of norm calls that use their input's statistics; None keeps the model's own.
        native: the dtype the model runs in when nobody looks; an RMS norm without an ε of its
            own takes that type's machine precision, which must not change with the probe's.
        observer: hears of each norm and embedding call, if given.
        eps_of_running: norm calls that use running statistics get the other ε as well.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        norm_eps: float | None,
        native: torch.dtype,
        observer: Observer | None = None,
        eps_of_running: bool = False,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.norm_eps = norm_eps
        self.native = native
        self.observer = observer
        self.eps_of_running = eps_of_running
        self._literals = LiteralEps(norm_eps)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _CASTS:
            return args[0].to(self.dtype)
        if func in NORMS:
            if self.observer is not None:
                self.observer.norm_called(func, args, kwargs)
            replaced = self.eps_of_running or uses_own_statistics(func, args, kwargs)
            if self.norm_eps is not None and replaced:
                args, kwargs = with_eps(func, args, kwargs, self.norm_eps)
            elif takes_machine_eps(func, args, kwargs):
                args, kwargs = with_eps(func, args, kwargs, torch.finfo(self.native).eps)
        elif func is F.embedding and self.observer is not None:
            self._observe_embedding(*args, **kwargs)
        elif func is not Tensor.view:  # view(dtype) reinterprets bits, it is no cast
            args = tuple(self._widened(a) for a in args)
            kwargs = {name: self._widened(a) for name, a in kwargs.items()}
            args, kwargs = self._literals.replaced(func, args, kwargs)
        result = func(*args, **kwargs)
        if self.observer is not None:
            self._observe_by_hand(func, args, kwargs, result)
        return result

    def _observe_by_hand(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        """Tell the observer of norms that are no norm function."""
        assert self.observer is not None
        self._literals.note(func, args, kwargs, result)
        if found := self._literals.divisor(func, args):
            self.observer.hand_written_norm_called(*found)

    def _widened(self, argument: Any) -> Any:
        if isinstance(argument, torch.dtype) and argument.is_floating_point:
            return self.dtype
        return argument

    def _observe_embedding(
        self, input: Tensor, weight: Tensor, padding_idx: int | None = None, *_: Any, **__: Any
    ) -> None:
        assert self.observer is not None
        self.observer.embedding_called(input, weight, padding_idx)


def adapt_attributes(model: nn.Module, dtype: torch.dtype, norm_eps: float | None) -> None:
    """Change plain attributes of the modules for one pass; the caller puts them back.

    - Floats named like an ε (`eps`, `variance_epsilon`) become `norm_eps`, except where running
      statistics are in use.
    - Tensors that are neither parameter nor buffer become copies, floating ones in `dtype`.
    - Switches of gradient checkpointing are turned off: its reentrant kind drops the gradient of
      parameters when no input asks for one.
    """
    for module in model.modules():
        frozen = "running_var" in module._buffers and not module.training
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                copied = value.detach().clone()
                vars(module)[name] = copied.to(dtype) if copied.is_floating_point() else copied
            elif value is True and "checkpoint" in name:
                vars(module)[name] = False
            elif (
                norm_eps is not None
                and not frozen
                and isinstance(value, float)
                and 0.0 < value < _LARGEST_EPS
                and _EPS_NAME.search(name)
            ):
                vars(module)[name] = norm_eps


def without_compilation() -> contextlib.AbstractContextManager[Any]:
    """Run what `torch.compile` wrapped, at any depth, as if it had not been.

    A model that holds a compiled part has imported the compiler; for others its import would cost
    a second and 100 MB.
    """
    if "torch._dynamo" in sys.modules:
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()
