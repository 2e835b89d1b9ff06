"""RMSprop and Adagrad: the preconditioner acts on the gradient before it is averaged, if it is.

RMSprop's buffer is b ← μb + Px, w ← w - ηb: the heavy ball's law with Px for x, and nothing left
out. Without momentum, and for Adagrad, the step is -ηPx, and the law says only <w, d> = -η<w, Px>.
P holds all that multiplies the rate, with Adagrad's own decay of it.
"""

from __future__ import annotations

import numpy as np

from spherical_motion.theory.balance_law import Moves
from spherical_motion.theory.families.heavy_ball import HeavyBallLaw
from spherical_motion.theory.settings import Array, Pair
from spherical_motion.theory.update_rule import UpdateRule


class PreconditionedHeavyBallLaw(HeavyBallLaw):
    """β = μ, θ = 1, x = Px: D/R = (2ηp + (1 - μ)γ)/(1 + μ)."""

    preconditioned = True

    def inner(self, moves: Moves) -> Array:
        return moves.gram.wp

    def fresh(self, moves: Moves) -> Pair:
        # <w, Px> holds λ<w, Pw>, which is not recorded on its own.
        untold = np.where(moves.s.weight_decay == 0.0, 0.0, np.nan) + np.zeros(moves.s.lr.shape)
        return untold, self.theta(moves) * self.inner(moves)


class RMSprop(UpdateRule):
    """With momentum or without, centred or not."""

    name = "RMSprop"
    optimizers = ("rmsprop",)
    decoupled = False
    balance_law = PreconditionedHeavyBallLaw()


class Adagrad(UpdateRule):
    """Without momentum."""

    name = "Adagrad"
    optimizers = ("adagrad",)
    decoupled = False
    balance_law = PreconditionedHeavyBallLaw()
