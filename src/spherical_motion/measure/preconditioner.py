"""What an optimizer makes of a gradient, entry by entry: the preconditioner of one tensor."""

from __future__ import annotations

import dataclasses

import torch


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Preconditioner:
    """How P and x of one tensor arise from an optimizer's state, both of the tensor's shape.

    The optimizer steps by d = -η(δw + Pb), where b averages x and

        P = scale / (root·√v + eps)  or  scale / (linear·v + eps),  x = g + decay·w.

    g is the gradient of the loss that is minimized, whatever its sign in the training loop. P
    includes every bias correction, so that it is exact from the first step on.

    Attributes:
        state: v, of the shape and dtype of the weights; None where P is the number `scale / eps`.
        scale: above the fraction, such as Adam's 1/(1 - β1^t).
        root: factor of √v, such as Adam's 1/√(1 - β2^t); 0 for none.
        linear: factor of v, such as Adamax's 1; it counts only where `root` is 0.
        eps: added below the fraction.
        decay: λ where weight decay acts through the gradient, else 0.
        average: b, of the shape and dtype of the weights; None where the optimizer stores no
            average of x (RMSprop averages Px). Only the product ws needs it.

    Two steps of Adam's rule at once, with v̂ = (4, 9):

    >>> p = Preconditioner(torch.tensor([2.0, 4.5]), root=0.5**-0.5, eps=1.0)
    >>> p.values()
    tensor([0.3333, 0.2500], dtype=torch.float64)
    """

    state: torch.Tensor | None = None
    scale: float = 1.0
    root: float = 0.0
    linear: float = 0.0
    eps: float = 0.0
    decay: float = 0.0
    average: torch.Tensor | None = None

    @classmethod
    def flat(
        cls, scale: float, decay: float = 0.0, average: torch.Tensor | None = None
    ) -> Preconditioner:
        """The same number for every entry, as in the first steps of RAdam."""
        return cls(scale=scale, eps=1.0, decay=decay, average=average)

    @property
    def coefficients(self) -> tuple[float, float, float, float, float]:
        """(scale, root, linear, eps, decay)."""
        return self.scale, self.root, self.linear, self.eps, self.decay

    def values(self) -> torch.Tensor:
        """P in float64, of the shape of `state`, or 0-dim without one."""
        v = torch.zeros(()) if self.state is None else self.state.detach()
        v = v.double()
        below = self.root * v.sqrt() if self.root else self.linear * v
        return self.scale / (below + self.eps)
