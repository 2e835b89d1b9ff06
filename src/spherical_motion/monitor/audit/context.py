"""What is audited: one optimizer, and the parameters of it that a monitor measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from spherical_motion.monitor.audit.around.norm_layers import NO_INPUTS, Fed


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class AuditContext:
    """One optimizer and what stands around it.

    Attributes:
        model: the watched model.
        optimizers: all optimizers of the monitor.
        number: which of them is audited.
        names: names of its measured parameters.
        numbers: for each its number in `RunInfo.parameters`.
        parameters: the tensors.
        param_groups: for each the index into the optimizer's `param_groups`.
        fed: which norm calls each parameter of the model feeds, or why this is not known.
    """

    model: torch.nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    number: int
    names: Sequence[str]
    numbers: Sequence[int]
    parameters: Sequence[torch.Tensor]
    param_groups: Sequence[int]
    fed: Fed | str = NO_INPUTS

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The audited one."""
        return self.optimizers[self.number]
