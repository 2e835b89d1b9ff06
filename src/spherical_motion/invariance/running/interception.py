"""What a probe changes in a model: the norms' ε, casts, some attributes."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spherical_motion.invariance.running.calling import widened
from spherical_motion.invariance.running.literal_eps import LiteralEps
from spherical_motion.invariance.running.norm_functions import (
    NORMS,
    Args,
    Function,
    Keywords,
    takes_machine_eps,
    uses_own_statistics,
    with_eps,
)

_EPS_NAME = re.compile(r"(^|_)eps(ilon)?(_|\d|$)")
_LARGEST_EPS = 0.1
_CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.double)


class Observer(Protocol):
    """Follows one forward pass and names its tensors by identity, see `graph.NormObserver`."""

    names: dict[int, str]

    def attach(self, model: nn.Module) -> None: ...
    def norm_called(self, function: Function, args: Args, kwargs: Keywords) -> None: ...
    def hand_written_norm_called(self, result: Tensor, eps_share: float) -> None: ...
    def embedding_called(self, tokens: Tensor, table: Tensor, padding_idx: int | None) -> None: ...
    def returned(
        self, function: Function, result: object, args: Args, kwargs: Keywords
    ) -> None: ...
    def forward_ended(self, outputs: Iterable[Tensor]) -> None: ...


class Interception(TorchFunctionMode):
    """Runs every torch function in one dtype and, on request, with another norm ε.

    A norm layer that casts to float32 would leave a defect of 4e-8, far above the threshold between
    true groups and false ones. So casts to a floating type become casts to `dtype`.

    Args:
        dtype: the floating type of every cast and every factory function.
        norm_eps: ε of norm calls that use their input's statistics; None keeps the model's own.
        native: the dtype of the model itself; an RMS norm without an ε of its own uses that type's
            machine precision, which must not change with the probe's.
        observer: receives each norm and embedding call, and the result of every function.
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
        self, func: Function, types: object, args: Args = (), kwargs: Keywords | None = None
    ) -> object:
        args, kwargs = self._changed(func, args, dict(kwargs or {}))
        result = args[0].to(self.dtype) if func in _CASTS else func(*args, **kwargs)
        if self.observer is not None:
            self._literals.remember(func, args, kwargs, result)
            if found := self._literals.divisor(func, args):
                self.observer.hand_written_norm_called(*found)
            self.observer.returned(func, result, args, kwargs)
        return result

    def _changed(
        self, func: Function, args: Args, kwargs: dict[str, Any]
    ) -> tuple[Args, dict[str, Any]]:
        """The arguments to call a function with."""
        if func in NORMS:
            if self.observer is not None:
                self.observer.norm_called(func, args, kwargs)
            replaced = self.eps_of_running or uses_own_statistics(func, args, kwargs)
            if self.norm_eps is not None and replaced:
                args, kwargs = with_eps(func, args, kwargs, self.norm_eps)
            elif takes_machine_eps(func, args, kwargs):
                args, kwargs = with_eps(func, args, kwargs, torch.finfo(self.native).eps)
        elif func is F.embedding and self.observer is not None:
            given = dict(zip(("input", "weight", "padding_idx"), args, strict=False)) | kwargs
            padding = given.get("padding_idx")
            self.observer.embedding_called(given["input"], given["weight"], padding)
        elif func is not Tensor.view:  # view(dtype) reinterprets bits and casts nothing
            args = tuple(self._widened(a) for a in args)
            kwargs = {name: self._widened(a) for name, a in kwargs.items()}
            args, kwargs = self._literals.replaced(func, args, kwargs)
        return args, kwargs

    def _widened(self, argument: object) -> object:
        if isinstance(argument, torch.dtype) and argument.is_floating_point:
            return self.dtype
        return argument


def adapt_attributes(model: nn.Module, dtype: torch.dtype, norm_eps: float | None) -> None:
    """Change plain attributes of the modules for one pass; the caller restores them.

    - Floats named like an ε (`eps`, `variance_epsilon`) become `norm_eps`, except where running
      statistics are in use.
    - Tensors that are neither parameter nor buffer become copies, floating ones in `dtype`.
    - Gradient checkpointing is turned off: its reentrant kind drops the gradients of parameters
      if no input needs one.
    """
    for module in model.modules():
        frozen = "running_var" in module._buffers and not module.training
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                vars(module)[name] = widened(value, dtype)
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


def without_compilation() -> contextlib.AbstractContextManager[object]:
    """A context that runs what `torch.compile` wrapped, at any depth, without compilation.

    A model with a compiled part has imported the compiler. For others the import, which costs a
    second and 100 MB, is not made.
    """
    if "torch._dynamo" in sys.modules:
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()
