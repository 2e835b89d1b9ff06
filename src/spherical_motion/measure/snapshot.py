"""Copies of weights: as they were before a step, and of half precision as the float32 they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spherical_motion.measure.layout import StridedLayout

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
            blocks[dtype].as_strided(
                tensor.shape, StridedLayout.of(tensor).strides if tensor.ndim else (), start
            )
            for tensor, (dtype, start) in zip(tensors, places, strict=True)
        ]

    def take(self, tensors: Sequence[torch.Tensor], which: Sequence[int] | None = None) -> None:
        """Copy `tensors`, which must have the shapes and dtypes given at construction.

        With `which`, only the tensors of these numbers.
        """
        if which is None:
            copy_all(self.tensors, list(tensors))
        elif which:
            copy_all([self.tensors[i] for i in which], [tensors[i] for i in which])


def copy_all(copies: list[torch.Tensor], originals: list[torch.Tensor]) -> None:
    """Copy each of `originals`, of which there is at least one, into its place in `copies`."""
    with torch.no_grad():
        # One call for all tensors; torch has no public name for it.
        torch._foreach_copy_(copies, originals)  # pyright: ignore[reportPrivateImportUsage]


class Widened:
    """The tensors that are measured: weights themselves, and float32 copies of narrower ones.

    float32 holds the numbers of half precision exactly.

    Attributes:
        tensors: one for each weight, as they were given or as `read` has left them.
        nbytes: memory of the copies.

    >>> w = torch.ones(3, dtype=torch.bfloat16)
    >>> Widened([w]).read([w])[0]
    tensor([1., 1., 1.])
    """

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        self._narrow = [i for i, weight in enumerate(weights) if is_narrow(weight)]
        self.tensors = list(weights)
        for i in self._narrow:
            self.tensors[i] = torch.zeros_like(weights[i], dtype=torch.float32, requires_grad=False)
        self.nbytes = sum(self.tensors[i].nbytes for i in self._narrow)

    def read(self, weights: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The weights as they are now, those of half precision as float32."""
        if not self._narrow:
            return weights
        self.tensors = [
            old if is_narrow(now) else now for old, now in zip(self.tensors, weights, strict=True)
        ]
        copies = [self.tensors[i] for i in self._narrow]
        copy_all(copies, [weights[i].detach() for i in self._narrow])
        return self.tensors

    def gradients(self, given: Sequence[torch.Tensor | None]) -> Sequence[torch.Tensor | None]:
        """Gradients of such weights, as float32 where they are narrower."""
        if not self._narrow:
            return given
        return [g.float() if g is not None and is_narrow(g) else g for g in given]


def is_narrow(tensor: torch.Tensor) -> bool:
    """Whether a tensor is of half precision."""
    return tensor.dtype in (torch.bfloat16, torch.float16)
