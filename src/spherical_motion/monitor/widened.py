"""Weights in half precision, measured through copies in float32, which hold them exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spherical_motion.monitor.snapshot import copy_all


class Widened:
    """The tensors that are measured: weights themselves, and float32 copies of narrower ones.

    Attributes:
        tensors: one for each parameter; copies are up to date after `read`.
        nbytes: memory of the copies.

    >>> w = torch.ones(3, dtype=torch.bfloat16)
    >>> widened = Widened([w])
    >>> widened.read()
    >>> widened.tensors[0]
    tensor([1., 1., 1.])
    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._narrow = [p for p in parameters if is_narrow(p)]
        self.tensors = [
            torch.zeros_like(p, dtype=torch.float32, requires_grad=False) if is_narrow(p) else p
            for p in parameters
        ]
        pairs = zip(self.tensors, parameters, strict=True)
        self._copies = [tensor for tensor, parameter in pairs if tensor is not parameter]
        self.nbytes = sum(copy.nbytes for copy in self._copies)

    def read(self) -> None:
        """Copy the weights as they are now."""
        if self._copies:
            copy_all(self._copies, [p.detach() for p in self._narrow])

    def gradients(self, given: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """The gradients in the dtypes of `tensors`."""
        if not self._copies:
            return list(given)
        return [g.float() if g is not None and is_narrow(g) else g for g in given]


def is_narrow(tensor: torch.Tensor) -> bool:
    """Whether a tensor is of half precision."""
    return tensor.dtype in (torch.bfloat16, torch.float16)
