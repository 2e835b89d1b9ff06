"""Read SGD's step off its momentum buffer, without a copy of the weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spherical_motion.binding import Members


class SgdStep:
    """The step of the members' parameters, where it is -lr times a momentum buffer.

    The optimizer may be any; only the steps of `torch.optim.SGD` with momentum can be read.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, members: Members) -> None:
        self._optimizer, self._parameters = optimizer, members.parameters
        self._owners = members.param_group_numbers()

    def can_be_read(self, has_closure: bool) -> bool:
        """Whether the coming step will be -lr times the buffers."""
        optimizer = self._optimizer
        # A closure may still remove gradients.
        if type(optimizer) is not torch.optim.SGD or has_closure:
            return False
        # With a GradScaler, a fused step may skip itself.
        if getattr(optimizer, "found_inf", None) is not None:
            return False
        plain = all(
            group["momentum"] != 0 and not group["nesterov"] for group in optimizer.param_groups
        )
        return plain and all(
            isinstance(buffer := optimizer.state[p].get("momentum_buffer"), Tensor)
            and buffer.stride() == p.stride()
            and buffer.dtype == p.dtype
            for p in self._parameters
        )

    def read(self) -> tuple[list[Tensor], list[float]]:
        """The buffers, and their factors in the last step; 0 without a gradient."""
        state, factors = self._optimizer.state, []
        for own, p in zip(self._owners, self._parameters, strict=True):
            lr = float(self._optimizer.param_groups[own]["lr"])
            # Rounded as in the optimizer's multiplication.
            lr = float(np.float32(lr)) if p.dtype == torch.float32 else lr
            factors.append(0.0 if p.grad is None else -lr)
        return [state[p]["momentum_buffer"] for p in self._parameters], factors
