"""The two passes over memory of a step on the sphere: inner products of each group, then a mixture.

A step mixes weights x, gradient g and, with momentum, m by numbers that depend on the inner
products of the three over each group: `sums` reads all, `update` reads and writes all. Here in
torch operations, on any device: the reference for the compiled loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from spherical_motion.binding import Members

T = TypeVar("T")

foreach_add_, foreach_mul_, foreach_mul = (
    getattr(torch, f"_foreach_{name}") for name in ("add_", "mul_", "mul")
)

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

    The columns of a matrix of factors, in this order; without momentum only the first two.
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
    """The interface of both implementations, for weights x, gradients g and momenta m."""

    def sums(self, x: Vectors, g: Vectors, m: Vectors | None) -> Tensor:
        """Inner products over each group, (groups, 3) or (groups, 6), float64: see `Products`."""
        ...

    def update(self, x: Vectors, g: Vectors, m: Vectors | None, factors: Tensor) -> None:
        """Mix in place by `factors`, (groups, 2) or (groups, 6) with momentum: see `Factors`.

        Rows that belong to no group are left as they are.
        """
        ...


class TorchPasses:
    """`Passes` by one operation a tensor, or by `torch._foreach_*` where offered."""

    def __init__(self, members: Members, foreach: bool) -> None:
        self.members, self.foreach = members, foreach

    def sums(self, x: Vectors, g: Vectors, m: Vectors | None) -> Tensor:
        pairs = [(x, x), (x, g), (g, g)]
        if m is not None:
            pairs += [(x, m), (m, m), (m, g)]
        return torch.stack([self.members.sums(a, b) for a, b in pairs], dim=1)

    def update(self, x: Vectors, g: Vectors, m: Vectors | None, factors: Tensor) -> None:
        columns = [
            [self.members.spread(column, i, fill).to(t.dtype) for i, t in enumerate(x)]
            for column, fill in zip(factors.unbind(dim=1), STILL, strict=False)
        ]
        if m is None:
            self._mix(x, list(zip((x, g), columns, strict=True)))
            return
        # m is needed as it was for x, and x as it was for m.
        old = [t.detach().clone() for t in x]
        x_x, x_g, x_m, m_x, m_g, m_m = columns
        self._mix(x, [(x, x_x), (g, x_g), (m, x_m)])
        self._mix(m, [(m, m_m), (old, m_x), (g, m_g)])

    def _mix(self, out: Vectors, terms: Sequence[tuple[Vectors, list[Tensor]]]) -> None:
        """out ← Σ tensors·factors; the first term's tensors are `out` itself."""
        (_, first), rest = terms[0], terms[1:]
        if self.foreach:
            # Lists, because that is what these functions take.
            foreach_mul_(list(out), first)
            for tensors, factors in rest:
                foreach_add_(list(out), foreach_mul(list(tensors), factors))
            return
        for i, tensor in enumerate(out):
            tensor.mul_(first[i])
            for tensors, factors in rest:
                tensor.add_(tensors[i] * factors[i])


def root(x: Tensor) -> Tensor:
    """√x, without the threads that torch wakes for `sqrt` of some thousand numbers already.

    >>> root(torch.tensor([0.0, 4.0]))
    tensor([0., 2.])
    """
    return x.rsqrt().reciprocal()
