"""What a step on the sphere asks of memory: inner products of a group, then a mixture.

A step mixes weights x, gradient g and, with momentum, m by numbers that depend on the inner
products of the three over each group. So there are two passes: `sums` reads all, `update` reads
and writes all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")

Vectors = Sequence[Tensor]
"""One tensor for each of `members.parameters`."""


class Products(NamedTuple):
    """Columns of what `Passes.sums` returns; without momentum only the first three."""

    xx: Tensor
    xg: Tensor
    gg: Tensor
    xm: Tensor
    mm: Tensor
    mg: Tensor


class Factors(NamedTuple, Generic[T]):
    """Coefficients of an update: x ← x_x·x + x_g·g + x_m·m, m ← m_x·x + m_g·g + m_m·m.

    Their order is that of the columns of a matrix of factors. Without momentum the first two
    columns are all there are.
    """

    x_x: T
    x_g: T
    x_m: T
    m_x: T
    m_g: T
    m_m: T


STILL = Factors(x_x=1.0, x_g=0.0, x_m=0.0, m_x=0.0, m_g=0.0, m_m=1.0)
"""The update that changes nothing."""


class Passes(Protocol):
    """What a step needs of the code that touches weights x, gradients g and momenta m."""

    def sums(self, x: Vectors, g: Vectors, m: Vectors | None) -> Tensor:
        """Inner products over each group, (groups, 3) or (groups, 6), float64: see `Products`."""
        ...

    def update(self, x: Vectors, g: Vectors, m: Vectors | None, factors: Tensor) -> None:
        """Mix in place by `factors`, (groups, 2) or (groups, 6) with momentum: see `Factors`.

        Rows that belong to no group are left as they are.
        """
        ...
