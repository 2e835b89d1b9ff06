"""The layout of a tensor in memory, and copies of other tensors in the same layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from spherical_motion.errors import InvalidArgument

DTYPES = (torch.float32, torch.float64)
"""What can be measured."""

WIDENED = (torch.bfloat16, torch.float16)
"""What can be measured through copies in float32, which hold it exactly."""


def is_measurable(tensor: torch.Tensor) -> bool:
    """Whether weights can be watched: dense, on the CPU, measurable as they are or widened."""
    return tensor.dtype in DTYPES + WIDENED and tensor.is_cpu and tensor.layout is torch.strided


def check_measurable(name: str, tensor: torch.Tensor, *, widened: bool = False) -> None:
    """Raise InvalidArgument unless `tensor` is float32 or float64 and on the CPU.

    With `widened`, half precision passes as well.
    """
    if tensor.dtype not in DTYPES and not (widened and tensor.dtype in WIDENED):
        raise InvalidArgument(
            f"{name} must be float32 or float64, got {tensor.dtype}, which cannot be measured yet. "
            "Measure the float32 master weights, or convert with .float() if that loses nothing."
        )
    if not tensor.is_cpu:
        raise InvalidArgument(
            f"{name} must be on the CPU, got a tensor on {tensor.device}, which cannot be measured "
            "yet. Pass .cpu() copies."
        )


def lacks_memory(tensor: torch.Tensor) -> bool:
    """Whether the storage of a strided tensor is smaller than what its shape reaches.

    Code that shards or offloads weights frees their storage and leaves the tensor as it is; to
    read it would end the process.

    >>> w = torch.zeros(2, 3)
    >>> _ = w.untyped_storage().resize_(0)
    >>> lacks_memory(w), lacks_memory(torch.zeros(2, 3)[:, 1:]), lacks_memory(torch.zeros(0))
    (True, False, False)
    """
    held = tensor.untyped_storage().nbytes()
    if held == tensor.nbytes or not tensor.numel():  # nearly all tensors fill their storage
        return False
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    reach = 1 + sum((length - 1) * stride for length, stride in steps)
    return (tensor.storage_offset() + reach) * tensor.element_size() > held


@dataclasses.dataclass(frozen=True, slots=True)
class StridedLayout:
    """Type, shape and strides (in entries) of a tensor that fills one block of memory.

    Contiguous, channels_last and permuted tensors do. Tensors with gaps or repeated entries are
    measured through a contiguous copy. 0-dim tensors count as shape (1,).
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> StridedLayout:
        """The layout in which `tensor` can be read.

        >>> StridedLayout.of(torch.empty(2, 3, 4).permute(2, 0, 1)).strides
        (1, 12, 4)
        >>> StridedLayout.of(torch.empty(8)[::2]).strides
        (1,)
        """
        tensor = torch.atleast_1d(tensor)
        shape, strides = tensor.shape, tensor.stride()
        if not _is_dense(shape, strides):
            strides = torch.empty(shape, device="meta").stride()
        return cls(tensor.dtype, shape, strides)

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` itself if it has this layout already, else a copy that has.

        Raises:
            InvalidArgument: another dtype, shape or device; the message begins with `name`.
        """
        if tensor.ndim == 0:
            tensor = tensor.reshape(1)
        if tensor.dtype != self.dtype or tensor.shape != self.shape or not tensor.is_cpu:
            shape, found = tuple(self.shape), tuple(tensor.shape)
            raise InvalidArgument(
                f"{name} must be {self.dtype} of shape {shape} on cpu, as the weights were when "
                f"measuring was set up, got {tensor.dtype} of shape {found} on {tensor.device}. "
                "Convert it, or set up measuring again."
            )
        if tensor.layout == torch.strided and self._matches(tensor.stride()):
            return tensor
        laid = torch.empty_strided(self.shape, self.strides, dtype=self.dtype)
        return laid.copy_(tensor.detach().to_dense())

    def is_of(self, tensor: torch.Tensor) -> bool:
        """Whether `tensor`, which may be anything, is a plain tensor that lies so on the CPU."""
        kind = type(tensor)
        return (
            (kind is torch.Tensor or kind is torch.nn.Parameter)
            and tensor.dtype is self.dtype
            and tensor.is_cpu
            and tensor.layout is torch.strided
            and tensor.shape == self.shape
            and tensor.stride() == self.strides
        )

    def _matches(self, strides: tuple[int, ...]) -> bool:
        # The stride of an axis of length 1 says nothing, and frameworks fill it in freely.
        return strides == self.strides or all(
            mine == theirs or length == 1
            for mine, theirs, length in zip(self.strides, strides, self.shape, strict=True)
        )


def place_all(
    layouts: Sequence[StridedLayout], name: str, tensors: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Each tensor in its layout; `name` of the list begins the message if one does not fit."""
    return [
        layout.place(f"{name}[{i}]", tensor)
        for i, (layout, tensor) in enumerate(zip(layouts, tensors, strict=True))
    ]


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the strides are those of a contiguous tensor with its axes in some order."""
    expected = 1
    for stride, length in sorted(zip(strides, shape, strict=True)):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True
