"""The two passes over memory that a step on the sphere makes: inner products, then an update.

A step mixes weights x, gradient g and, with momentum, m by numbers that depend on the inner
products of the three over each group. So there are two passes: `sums` reads all, `update` reads
and writes all. Here in torch operations, which run on any device and are the reference for the
compiled loops of `_passes_cpu`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from spherical_motion.binding import Members

foreach_add_, foreach_mul_, foreach_mul = (
    getattr(torch, f"_foreach_{name}") for name in ("add_", "mul_", "mul")
)

__all__ = ["PRODUCTS", "Passes", "TorchPasses"]

PRODUCTS = ("xx", "xg", "gg", "xm", "mm", "mg")
"""Columns of what `sums` returns; without momentum only the first three."""


class Passes(Protocol):
    """What a step needs of whoever touches the tensors.

    Everywhere `x`, `g` and `m` hold one tensor for each of `members.parameters`.
    """

    def sums(self, x: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor] | None) -> Tensor:
        """Inner products over each group, (groups, 3) or (groups, 6), float64: see `PRODUCTS`."""
        ...

    def update(
        self,
        x: Sequence[Tensor],
        g: Sequence[Tensor],
        m: Sequence[Tensor] | None,
        factors: Tensor,
    ) -> None:
        """In place x ← A·x + B·g, or with momentum x, m ← A·x + B·g + C·m, D·x + E·g + F·m.

        Args:
            x, g, m: as above. Rows that belong to no group are left as they are.
            factors: (groups, 2): A, B; or (groups, 6): A, B, C, D, E, F.
        """
        ...


class TorchPasses:
    """Both passes in torch operations: one at a time, or as `torch._foreach_*` where offered."""

    def __init__(self, members: Members, foreach: bool) -> None:
        self.members = members
        self.foreach = foreach

    def sums(self, x: Sequence[Tensor], g: Sequence[Tensor], m: Sequence[Tensor] | None) -> Tensor:
        """As `Passes.sums`."""
        pairs = [(x, x), (x, g), (g, g)]
        if m is not None:
            pairs += [(x, m), (m, m), (m, g)]
        return torch.stack([self.members.sums(a, b) for a, b in pairs], dim=1)

    def update(
        self,
        x: Sequence[Tensor],
        g: Sequence[Tensor],
        m: Sequence[Tensor] | None,
        factors: Tensor,
    ) -> None:
        """As `Passes.update`."""
        if m is None:
            a, b = (self._spread(column, x, fill) for column, fill in self._columns(factors, "A"))
            self._mix(x, [(x, a), (g, b)])
            return
        columns = [self._spread(c, x, fill) for c, fill in self._columns(factors, "AF")]
        # m is needed as it was for x, and x as it was for m.
        old = [t.detach().clone() for t in x]
        self._mix(x, list(zip((x, g, m), columns[:3], strict=True)))
        self._mix(m, list(zip((m, old, g), [columns[5], *columns[3:5]], strict=True)))

    @staticmethod
    def _columns(factors: Tensor, kept: str) -> list[tuple[Tensor, float]]:
        """Each column, and what it is where a row belongs to no group: 1 for those `kept`."""
        names = "ABCDEF"[: factors.shape[1]]
        return [(factors[:, i], float(name in kept)) for i, name in enumerate(names)]

    def _spread(self, column: Tensor, x: Sequence[Tensor], fill: float) -> list[Tensor]:
        spread = self.members.spread
        return [spread(column, i, fill).to(tensor.dtype) for i, tensor in enumerate(x)]

    def _mix(
        self, out: Sequence[Tensor], terms: Sequence[tuple[Sequence[Tensor], list[Tensor]]]
    ) -> None:
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
