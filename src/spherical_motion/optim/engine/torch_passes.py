"""Both passes in torch operations, on any device: the reference for the compiled loops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spherical_motion.binding import Members
from spherical_motion.optim.engine.passes import STILL, Vectors

foreach_add_, foreach_mul_, foreach_mul = (
    getattr(torch, f"_foreach_{name}") for name in ("add_", "mul_", "mul")
)


class TorchPasses:
    """`Passes` by one operation a tensor, or by `torch._foreach_*` where offered."""

    def __init__(self, members: Members, foreach: bool) -> None:
        self.members = members
        self.foreach = foreach

    def sums(self, x: Vectors, g: Vectors, m: Vectors | None) -> Tensor:
        """As `Passes.sums`."""
        pairs = [(x, x), (x, g), (g, g)]
        if m is not None:
            pairs += [(x, m), (m, m), (m, g)]
        return torch.stack([self.members.sums(a, b) for a, b in pairs], dim=1)

    def update(self, x: Vectors, g: Vectors, m: Vectors | None, factors: Tensor) -> None:
        """As `Passes.update`."""
        # Rows that belong to no group stay as they are.
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
