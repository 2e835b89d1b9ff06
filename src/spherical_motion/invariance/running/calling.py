"""How a model is called on example inputs, what it gives back, and how it fails."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from spherical_motion.errors import ModelError


def call_model(model: nn.Module, example_inputs: object) -> Any:
    """`model(*inputs)` for a tuple, `model(**inputs)` for a mapping, `model(inputs)` otherwise.

    >>> call_model(nn.Identity(), (torch.ones(2),))
    tensor([1., 1.])
    """
    if isinstance(example_inputs, tuple):
        return model(*example_inputs)
    if isinstance(example_inputs, Mapping):
        return model(**example_inputs)
    return model(example_inputs)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile`, DDP and DataParallel.

    The forward of the latter two synchronizes or scatters, which a probe must not.
    """
    wrapper = isinstance(model, DistributedDataParallel | DataParallel)
    inner = model.module if wrapper else getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def widened(inputs: Any, dtype: torch.dtype) -> Any:
    """A copy of nested inputs with every floating tensor in `dtype`, detached."""
    if isinstance(inputs, Tensor):
        copied = inputs.detach().clone()
        return copied.to(dtype) if copied.is_floating_point() else copied
    if isinstance(inputs, Mapping):
        return {key: widened(value, dtype) for key, value in inputs.items()}
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):
        return type(inputs)(*(widened(value, dtype) for value in inputs))
    if type(inputs) in (tuple, list):
        return type(inputs)(widened(value, dtype) for value in inputs)
    return inputs


def float_outputs(result: object) -> tuple[Tensor, ...]:
    """The loss, else the logits, else all floating tensors.

    A mapping may also hold caches and hidden states, which no loss uses.
    """
    if isinstance(result, Mapping):
        for key in ("loss", "logits"):
            if isinstance(result.get(key), Tensor):
                return (result[key],)
    real = (torch.view_as_real(t) if t.is_complex() else t for t in _tensors(result))
    return tuple(t for t in real if t.is_floating_point() and t.numel())


def _tensors(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, tuple | list):
        for value in result:
            yield from _tensors(value)
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        for field in dataclasses.fields(result):
            yield from _tensors(getattr(result, field.name))


def model_failure(
    model: nn.Module, example_inputs: object, dtype: torch.dtype, error: Exception
) -> ModelError:
    """An error that names the module in which `error` was raised, and the inputs."""
    hints = []
    if isinstance(example_inputs, tuple) and len(example_inputs) > 1:
        hints.append(
            "A tuple is passed as model(*inputs); if this is a loader's (x, y), pass x alone."
        )
    if isinstance(example_inputs, list):
        hints.append("A list is one argument, model(inputs); pass a tuple for model(*inputs).")
    about_dtype = any(word in str(error) for word in ("Double", "float64", "dtype"))
    if dtype == torch.float64 and about_dtype:
        hints.append(
            "The probe runs the model in torch.float64, which part of it does not support; "
            "dtype=torch.float32 (smd inspect --float32) keeps its own. Weights that are not "
            "registered as parameters are not converted."
        )
    else:
        hints.append(
            f"The probe runs the model in {dtype}; check that it runs on these inputs by itself."
        )
    return ModelError(
        f"{type(model).__name__} failed in {_failing_module(model, error)} on inputs "
        f"{_described(example_inputs)}: {type(error).__name__}: {_first_line(error)} "
        f"{' '.join(hints)}"
    )


def _first_line(error: Exception) -> str:
    """The first line of a message; torch adds every signature of the function."""
    line = next(iter(str(error).splitlines()), "").strip()
    line = line.removesuffix(", but expected one of:").rstrip(".")
    return f"{line}." if line else "(no message)."


def _failing_module(model: nn.Module, error: Exception) -> str:
    """The innermost module whose code was running when `error` was raised."""
    names = {id(module): name for name, module in model.named_modules()}
    found = "the model itself"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and names.get(id(module)):
            found = f"module {names[id(module)]!r} ({type(module).__name__})"
    return found


def _described(inputs: object) -> str:
    """Shapes and types, in the structure of the inputs.

    >>> _described((torch.zeros(2, 3), {"mask": None}))
    '(float32[2, 3], {mask: NoneType})'
    """
    if isinstance(inputs, Tensor):
        return f"{str(inputs.dtype).removeprefix('torch.')}{list(inputs.shape)}"
    if isinstance(inputs, Mapping):
        return "{" + ", ".join(f"{k}: {_described(v)}" for k, v in inputs.items()) + "}"
    if isinstance(inputs, tuple | list):
        return "(" + ", ".join(_described(v) for v in inputs) + ")"
    return type(inputs).__name__
