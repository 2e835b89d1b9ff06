"""Tell a step from the inherited step that it calls, around which torch runs the hooks again."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

import torch


class InnerSteps:
    """Whether a hook of an optimizer runs for a step inside another step of the same optimizer.

    torch wraps `step` once in each class that is made an object of. A class whose `step` calls
    `super().step()` may have two wrapped ones, and its hooks run twice a step.

    >>> class Logged(torch.optim.SGD):
    ...     def step(self, closure=None):
    ...         return super().step(closure)
    >>> plain = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> logged, found = Logged([torch.zeros(1, requires_grad=True)], lr=0.1), []
    >>> inner = InnerSteps(logged)
    >>> _ = logged.register_step_pre_hook(lambda *_: found.append(inner.now()))
    >>> logged.step()
    >>> found
    [False, True]
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        # Whether torch has wrapped a step of these may change; the step of `Optimizer` only raises.
        self._stepping = [
            cls
            for cls in type(optimizer).__mro__
            if "step" in vars(cls) and cls is not torch.optim.Optimizer
        ]

    def now(self) -> bool:
        """Whether the hook that asks runs for an inner step."""
        if len(self._stepping) < 2:
            return False
        wrapped: list[Any] = [
            step
            for step in (vars(cls).get("step") for cls in self._stepping)
            if getattr(step, "hooked", False)
        ]
        if len(wrapped) < 2:
            return False
        code: CodeType = wrapped[0].__code__  # all wrapped steps share it
        return self._count(code) > 1

    def _count(self, code: CodeType) -> int:
        """How many steps of the optimizer are under way."""
        count = 0
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code is code and frame.f_locals.get("self") is self._optimizer:
                count += 1
            frame = frame.f_back
        return count
