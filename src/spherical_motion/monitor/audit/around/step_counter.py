"""The optimizer's own count of its steps, beside the steps that it was seen to take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from spherical_motion.binding import Steppers, has_stepped


class StepCounter:
    """Counts the steps of an optimizer since its state was empty.

    Adam corrects its averages by the number of its steps. If that number is not the number of steps
    taken (a state loaded in part, a step counted twice), each step has a wrong length.

    Args:
        optimizer: whose state holds the count, under "step", by parameter or by param group.
        parameters: those to look at.

    >>> w = torch.ones(2, requires_grad=True)
    >>> optimizer = torch.optim.Adam([w])
    >>> counter = StepCounter(optimizer, [w])
    >>> for _ in range(3):
    ...     w.grad = torch.ones(2)
    ...     counter.begins()
    ...     optimizer.step()
    ...     counter.stepped()
    >>> counter.read()
    (3.0, 3.0)
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
    ) -> None:
        self._optimizer, self._parameters = optimizer, parameters
        self._taken: float | None = None  # NaN once it cannot be known
        self._had_gradient: bool | None = None

    def begins(self) -> None:
        """To be called before the first step, and before others where it may be."""
        if self._taken is None:
            # Not state[parameter], which would make an entry where there is none.
            states = (self._optimizer.state.get(p, {}) for p in self._parameters)
            self._taken = math.nan if any(map(has_stepped, states)) else 0.0
        self._had_gradient = self._has_gradient()

    def stepped(self) -> None:
        """To be called after each step that was taken.

        A step counts if a parameter had a gradient: torch passes over the others. A closure makes
        it during the step, and some loops clear it there, so that a step may not show whether it
        had one.
        """
        had, self._had_gradient = self._had_gradient, None
        if self._taken is None:
            return
        if had or self._has_gradient():
            self._taken += 1.0
        elif had is None:
            self._taken = math.nan

    def read(self) -> tuple[float, float]:
        """(the optimizer's count, the steps it was seen to take); NaN where there is none.

        Parameters without a gradient at some steps count fewer of them. So of the counts that
        differ between parameters the one closest to the steps taken is given, and the median if
        those are not known.
        """
        taken = math.nan if self._taken is None else self._taken
        counts = sorted(self._counts())
        if not counts:
            return math.nan, taken
        if math.isnan(taken):
            return counts[len(counts) // 2], taken
        return min(counts, key=lambda count: abs(count - taken)), taken

    def _has_gradient(self) -> bool:
        return any(parameter.grad is not None for parameter in self._parameters)

    def _counts(self) -> Iterator[float]:
        steppers, groups = Steppers([self._optimizer]), self._optimizer.param_groups
        for parameter in self._parameters:
            state = self._optimizer.state.get(parameter, {})
            stepper = steppers.of(parameter)
            group = {} if stepper is None else groups[stepper.param_group]
            count = state.get("step", group.get("step"))
            one = isinstance(count, torch.Tensor) and count.numel() == 1
            if one or (isinstance(count, int | float) and not isinstance(count, bool)):
                yield float(count)
