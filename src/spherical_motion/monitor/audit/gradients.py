"""Copies of the gradients before a step, for optimizers that write them in the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from spherical_motion.monitor.audit.parts import flat, is_plain, parts_of

WATCHED = 20
"""Steps after attaching during which the gradients are copied to see whether `step` writes them."""


class GradientCopies:
    """Copies of gradients, dropped after `WATCHED` steps unless a step has changed one.

    A closure, and unscaling within a fused step, change gradients before the optimizer reads them;
    copies made before such a step would be stale, so none is made.

    Attributes:
        writes: whether a step was seen to change a gradient.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], watched: int = WATCHED) -> None:
        self._parameters = parameters
        self._copies: list[torch.Tensor | None] = []
        self._taken = False
        self._left = watched
        self.writes = False

    @property
    def nbytes(self) -> int:
        """Memory that the copies take now."""
        return sum(copy.nbytes for copy in self._copies if copy is not None)

    @property
    def wanted(self) -> bool:
        """Whether the next step needs copies, audited or not."""
        return self._left > 0 or self.writes

    def take(self, *, audited: bool, changed_within: bool) -> None:
        """A step begins: copy the gradients if there is a reason to.

        Args:
            audited: whether the step is audited, which compares the gradients in any case.
            changed_within: whether the step makes or unscales its gradients itself.
        """
        self._taken = (audited or self.wanted) and not changed_within
        self._left = max(self._left - 1, 0)
        if not self._taken:
            self._copies = []
            return
        if not self._copies:
            self._copies = [None] * len(self._parameters)
        for i, parameter in enumerate(self._parameters):
            self._copies[i] = _copy(parameter.grad, self._copies[i])

    def compare(self) -> list[float]:
        """A step was taken: |g_after - g|/|g| of each parameter, NaN where there is no copy."""
        if not self._taken:
            return [math.nan] * len(self._parameters)
        found = [
            math.nan if copy is None else _changed(copy, parameter.grad)
            for copy, parameter in zip(self._copies, self._parameters, strict=True)
        ]
        self.writes = self.writes or any(change > 0.0 for change in found)
        return found

    def gradients(self) -> list[torch.Tensor | None] | None:
        """The gradients before the step, if this optimizer changes them; None if it does not."""
        if not (self._taken and self.writes):
            return None
        pairs = zip(self._copies, self._parameters, strict=True)
        return [parameter.grad if copy is None else copy for copy, parameter in pairs]

    def release(self) -> None:
        """The step is measured: give the copies back unless the next step needs them."""
        if not self.wanted:
            self._copies = []
        self._taken = False


def _copy(gradient: torch.Tensor | None, last: torch.Tensor | None) -> torch.Tensor | None:
    """A copy, in the memory of the last one if it fits; None of what is not a plain gradient."""
    if gradient is None or not is_plain(gradient):
        return None
    gradient = gradient.detach()
    fits = (
        last is not None
        and last.dtype is gradient.dtype
        and last.shape == gradient.shape
        and last.device == gradient.device
        and last.stride() == gradient.stride()
    )
    return last.copy_(gradient) if fits and last is not None else gradient.clone()


def _changed(before: torch.Tensor, after: torch.Tensor | None) -> float:
    """|g_after - g|/|g|; a gradient that is gone counts as zero."""
    if after is None:
        return 1.0
    if after.shape == before.shape and torch.equal(after, before):
        return 0.0
    if after.shape != before.shape or not is_plain(after):
        return math.inf
    miss = size = 0.0
    for old, new in parts_of([flat(before, before), flat(after.detach(), before)]):
        old = old.double()
        miss += float((new.double() - old).square().sum())
        size += float(old.square().sum())
    # NaN is never equal to itself, but a gradient of NaN was not changed by a step.
    if math.isnan(miss):
        return 0.0
    return math.sqrt(miss / size) if size > 0.0 else math.inf
