"""Remembering the values of a tensor or an array, and restoring them if a bit changed."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def remembered_tensor(tensor: Tensor) -> Callable[[], None]:
    """Copy a tensor's values; the result writes them back if one has changed.

    Restores values, shape, storage, `requires_grad`, and removes an autograd history that was not
    there before. A history from before an in-place change is lost.

    Raises:
        NotImplementedError, RuntimeError, KeyError: no dense tensor with values.

    >>> queue = torch.zeros(2)
    >>> put_back = remembered_tensor(queue)
    >>> put_back()
    >>> queue._version
    0
    >>> _ = queue.add_(1.0)
    >>> put_back()
    >>> queue
    tensor([0., 0.])
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise NotImplementedError("only dense tensors with values are remembered")
    with torch._C.DisableTorchFunctionSubclass():
        alias = tensor.detach()
        written = _without_repeats(alias)
        kept = written.clone()
        _bits(kept)  # raises now for a type that cannot be compared
        asked, leaf = tensor.requires_grad, tensor.grad_fn is None

    def put_back() -> None:
        with (
            torch.inference_mode(alias.is_inference()),
            torch.no_grad(),
            torch._C.DisableTorchFunctionSubclass(),
        ):
            if not torch.equal(_bits(written), _bits(kept)):
                written.copy_(kept)
            if _place(tensor) != _place(alias):
                tensor.data = alias
            if leaf and (tensor.grad_fn is not None or tensor.requires_grad != asked):
                tensor.detach_().requires_grad_(asked)

    return put_back


def _without_repeats(tensor: Tensor) -> Tensor:
    """Each value once; a tensor whose values `expand` repeats cannot be written to."""
    if 0 not in tensor.stride():
        return tensor
    shape = [min(n, 1) if s == 0 else n for n, s in zip(tensor.shape, tensor.stride(), strict=True)]
    return tensor.as_strided(shape, tensor.stride(), tensor.storage_offset())


def _bits(tensor: Tensor) -> Tensor:
    """The values as integers, so that 0 differs from -0, and a NaN equals itself."""
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype == torch.complex128:
        tensor = torch.view_as_real(tensor)
    return tensor.view(_BITS[tensor.itemsize])


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def remembered_array(array: NDArray[Any]) -> Callable[[], None]:
    """The same for numpy arrays, except those of objects and those mapped to files.

    Raises:
        NotImplementedError: one of these, or it cannot be written to.
    """
    mapped = isinstance(array.base, np.memmap | mmap.mmap)
    if array.dtype.hasobject or mapped or not array.flags.writeable:
        raise NotImplementedError("only writable arrays of numbers in memory are remembered")
    kept = array.copy()

    def put_back() -> None:
        if array.tobytes() != kept.tobytes():
            np.copyto(array, kept)

    return put_back
