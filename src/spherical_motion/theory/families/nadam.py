"""NAdam: Adam with a look ahead, u_t = P_t[(1 - μ_t)x_t + μ_{t+1}m_t], m as Adam's.

For fresh gradients u = ΣhₖPx_{t-k} with h_0 = 1 - μβ1 and h_k = μ(1 - β1)β1^k. Then D = η²V·Σh²,
and |w|² grows by η²V(Σh)² less 2η<w, Px>Σh, with Σh = 1, so that D = f(2ηpR + G) and

    f = Σh² = (1 - μβ1)² + (μβ1)²(1 - β1)/(1 + β1).

At μ = β1 that is (1 - β1)(1 + 2β1 - 2β1³)/(1 + β1). torch lets μ grow slowly from β1/2 to β1:
μ_t = β1(1 - .96^{.004t}/2), half of the way in 4,200 steps.
"""

from __future__ import annotations

from typing import ClassVar

from spherical_motion.theory.balance_law import BalanceLaw, Moves, ReadableLaw
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.settings import Settings, Value
from spherical_motion.theory.update_rule import UpdateRule

MOMENTUM_DECAY = 4e-3
"""torch's default of `momentum_decay`."""


class NAdamLaw(ReadableLaw):
    """f of fresh gradients; what the buffer has in common with the gradient is left out."""

    preconditioned = True
    changes = True
    neglects = (
        "the change of the preconditioner, and what the buffer has in common with the gradient"
    )

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        """At μ = β1, after many thousand steps."""
        return _fresh(s.momentum, s.momentum), 1.0

    def forms(self, moves: Moves) -> tuple[Value, Value]:
        ahead = moves.s.momentum * (1.0 - 0.5 * 0.96 ** (MOMENTUM_DECAY * (moves.steps + 1.0)))
        return _fresh(moves.s.momentum, ahead), 1.0


class NAdamL2(UpdateRule):
    """Weight decay through the gradient."""

    name = "NAdam with L2 weight decay"
    optimizers = ("nadam",)
    decoupled = False
    balance_law: ClassVar[BalanceLaw | None] = NAdamLaw()


class NAdamDecoupled(NAdamL2):
    """Weight decay of the weights themselves."""

    name = "NAdam with decoupled weight decay"
    decoupled = True


def _fresh(beta1: Value, ahead: Value) -> Value:
    kept = beta1 * ahead
    return (1.0 - kept) ** 2 + kept**2 * (1.0 - beta1) / (1.0 + beta1)
