"""The optimizer's own count of its steps, beside the steps that it was seen to take."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spherical_motion.binding import Steppers, has_stepped

Array = NDArray[np.float64]


class StepCounter:
    """Counts the steps of an optimizer since its state was empty, for each parameter.

    Adam corrects its averages by the number of its steps. If that number is not the number of steps
    taken (a state loaded in part, a step counted twice), each step has a wrong length. Torch passes
    over a parameter without a gradient, so parts of a model that are used now and then (experts,
    alternating heads) have counts of their own.

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
    (array([3.]), array([3.]))
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor]
    ) -> None:
        self._optimizer, self._parameters = optimizer, parameters
        self._begun, self._unknown = False, False
        self._had: list[bool] | None = None  # before the step: which parameters have a gradient
        # Most steps have gradients of the same parameters, so that only their number is counted.
        self._alike, self._some, self._repeats = [False] * len(parameters), False, 0
        self._each, self._any = np.zeros(len(parameters)), 0

    def begins(self) -> None:
        """To be called before the first step, and before others where it may be."""
        if not self._begun:
            # Not state[parameter], which would make an entry where there is none.
            states = (self._optimizer.state.get(p, {}) for p in self._parameters)
            self._begun, self._unknown = True, any(map(has_stepped, states))
        self._had = self._gradients()

    def stepped(self) -> None:
        """To be called after each step that was taken.

        A closure makes gradients during the step, and some loops clear them there, so that a step
        may not show whether it had any. The steps taken are unknown from there on.
        """
        had, self._had = self._had, None
        if not self._begun or self._unknown:
            return
        have = self._gradients()
        if had is None and have == self._alike and self._some:  # nearly every step
            self._repeats += 1
            return
        if had is not None and had != have:
            have = [one or other for one, other in zip(had, have, strict=True)]
        if have != self._alike:
            self._add_up()
            self._alike, self._some = have, True in have
        if self._some:
            self._repeats += 1
        elif had is None:
            self._unknown = True

    def read(self) -> tuple[Array, Array]:
        """(the optimizer's counts, the steps it was seen to take), each of shape (parameters,).

        A step counts for the parameters that had a gradient; if the count is one of the whole param
        group, each step with any gradient does. NaN where there is no count, or the steps are
        unknown.
        """
        self._add_up()
        steppers, groups = Steppers([self._optimizer]), self._optimizer.param_groups
        counts, taken = np.full((2, len(self._parameters)), math.nan)
        for place, parameter in enumerate(self._parameters):
            own = self._optimizer.state.get(parameter, {})
            stepper = steppers.of(parameter)
            group = {} if stepper is None else groups[stepper.param_group]
            counts[place] = _number(own.get("step", group.get("step")))
            shared = "step" in group and "step" not in own
            taken[place] = self._any if shared else self._each[place]
        return counts, np.full_like(taken, math.nan) if self._unknown or not self._begun else taken

    def _add_up(self) -> None:
        self._each += self._repeats * np.array(self._alike, dtype=np.float64)
        self._any += self._repeats
        self._repeats = 0

    def _gradients(self) -> list[bool]:
        return [parameter.grad is not None for parameter in self._parameters]


def _number(count: object) -> float:
    """A count in a tensor of one entry or as a number; NaN if it is none."""
    if isinstance(count, torch.Tensor):
        return float(count) if count.numel() == 1 else math.nan
    if isinstance(count, int | float) and not isinstance(count, bool):
        return float(count)
    return math.nan
