"""Weights as they were before a step: one buffer, allocated once, written on sampled steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

ALIGNMENT = 16
"""Each tensor starts at a multiple of this many entries, which keeps copies aligned."""


class Snapshot:
    """Copies of some tensors in one block of memory per dtype, laid out like the originals.

    The constructor allocates and writes all of it: memory may run out then, but not in training.

    >>> w = torch.ones(2, 3)
    >>> snapshot = Snapshot([w])
    >>> snapshot.take([w])
    >>> _ = w.zero_()
    >>> snapshot.tensors[0].sum()
    tensor(6.)
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        places: list[tuple[torch.dtype, int]] = []
        sizes: dict[torch.dtype, int] = {}
        for tensor in tensors:
            start = sizes.get(tensor.dtype, 0)
            places.append((tensor.dtype, start))
            sizes[tensor.dtype] = start + -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
        blocks = {dtype: torch.zeros(size, dtype=dtype) for dtype, size in sizes.items()}
        self.nbytes = sum(block.nbytes for block in blocks.values())
        self.tensors = [
            blocks[dtype][start : start + tensor.numel()].as_strided(
                tensor.shape, _strides(tensor), start
            )
            for tensor, (dtype, start) in zip(tensors, places, strict=True)
        ]

    def take(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copy `tensors`, which must have the shapes and dtypes given at construction."""
        copy_all(self.tensors, list(tensors))


def copy_all(copies: list[torch.Tensor], originals: list[torch.Tensor]) -> None:
    """Copy each of `originals`, of which there is at least one, into its place in `copies`."""
    with torch.no_grad():
        # One call for all tensors; torch has no public name for it.
        torch._foreach_copy_(copies, originals)  # pyright: ignore[reportPrivateImportUsage]


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """The tensor's own strides if it fills its memory without gaps, else contiguous ones."""
    return torch.empty_like(tensor, device="meta", memory_format=torch.preserve_format).stride()
