"""Which steps are measured."""

from __future__ import annotations

import dataclasses

from spherical_motion.checks import whole
from spherical_motion.errors import InvalidArgument


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Measure `burst` consecutive steps out of every `every`, and cells once in `cells_every`.

    >>> [step for step in range(12) if Sampling(every=5, burst=2).takes(step)]
    [0, 1, 5, 6, 10, 11]
    """

    every: int
    burst: int
    cells_every: int | None = None

    @classmethod
    def of(cls, every: object, burst: object, cells_every: object) -> Sampling:
        """From the arguments of `Monitor`, checked and with its defaults.

        Raises:
            InvalidArgument: one is no positive integer, or `burst` exceeds `every`.
        """
        remedy = "Use every=1 to measure each step."
        period = whole("Monitor", "every", every, least=1, remedy=remedy)
        length = min(2, period) if burst is None else whole("Monitor", "burst", burst, least=1)
        if length > period:
            raise InvalidArgument(
                f"Monitor(burst=...) must be at most every={period}, got {length}. {remedy}"
            )
        if cells_every is not None:
            cells_every = whole("Monitor", "cells_every", cells_every, least=1)
        return cls(period, length, cells_every)

    def takes(self, step: int) -> bool:
        """Whether step number `step` is measured."""
        return step % self.every < self.burst or self.takes_cells(step)

    def takes_cells(self, step: int) -> bool:
        """Whether the cells of step number `step` are measured."""
        return self.cells_every is not None and step % self.cells_every == 0
