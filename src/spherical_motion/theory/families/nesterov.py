"""SGD with Nesterov momentum and L2 weight decay: w ← w - η(g + λw + αv).

At rest the four products |w|², <w, v>, <w, v_{t-1}>, |v|² obey a linear recursion; its fixed
point is rational in a = ηλ and α. It needs the overlap q = <v_{t-1}, g>/|g|², which is 0 for
uncorrelated gradients: with it the gain is multiplied by 1 + 2α²q (the heavy ball has 1 + 2αq in
its h̃), and the turn's bracket grows by 2α²(1 + α - α²)q.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from spherical_motion import sphere
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.theory.balance_law import Moves, before
from spherical_motion.theory.families.heavy_ball import HeavyBallL2, HeavyBallLaw
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.recursion.step import Row, nesterov_rows, smaller_root
from spherical_motion.theory.settings import Array, Pair, Settings, Steps, Value
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class NesterovLaw(HeavyBallLaw):
    """u_t = x_t + α_t b_t with b_{t-1} = (u_{t-1} - x_{t-1})/α_{t-1}, so that in the general form

        β_t = α_t²/α_{t-1},    θX becomes (1 + α_t)X_t - β_t<w_t, x_{t-1}>,

    and <w_t, x_{t-1}> = (X + <d, x>)_{t-1} is recorded: an identity, too. The readable form takes
    the gradient to be fresh, <v_{t-1}, g> = 0.
    """

    def kept(self, moves: Moves) -> Array:
        return moves.s.momentum**2 / before(moves.s.momentum)

    def fresh(self, moves: Moves) -> Pair:
        gram, l2, momentum = moves.gram, self.l2(moves), moves.s.momentum
        kept = np.where(moves.start | (momentum == 0.0), 0.0, self.kept(moves))

        def new(now: Array, last: Array) -> Array:
            return (1.0 + momentum) * now - np.where(kept == 0.0, 0.0, kept * before(last))

        decay, inner = l2 * gram.ww, self.inner(moves)
        moved = gram.dg + l2 * gram.wd
        return new(decay, decay + l2 * gram.wd), new(inner, inner + moved)

    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        a = s.momentum
        return (1.0 + 2.0 * a - 2.0 * a**3) / (1.0 + a), 1.0 - a

    def rest_ratio_sq(self, hp: HyperParameters, pull: float, facts: GroupFacts) -> float:
        # A pull and weight decay act alike, so that the plain law is exact with one for the other.
        return NesterovL2().step_ratio_sq(dataclasses.replace(hp, weight_decay=pull), facts)


class NesterovL2(HeavyBallL2):
    """|w|⁴ relaxes as the heavy ball's, driven by |g̃|²; angle and norm depend on the overlap."""

    name = "SGD with Nesterov momentum and L2 weight decay"
    balance_law = NesterovLaw()

    def covers(self, hp: HyperParameters) -> bool:
        plain = hp.optimizer == "sgd" and not hp.decoupled and not hp.dampening
        return plain and hp.nesterov and hp.momentum > 0.0

    def largest_intrinsic_lr(self, momentum: float) -> float:
        return 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum)

    def rows(self, a: float, momentum: float, facts: GroupFacts) -> tuple[Row, Row, Row, Row]:
        return nesterov_rows(a, momentum, _overlap(facts))

    def fading(self, a: float, momentum: float) -> float:
        return smaller_root(1.0 - momentum + a * (1.0 + momentum), a)

    def critical(self, momentum: float) -> float:
        return ((1.0 - momentum) / (1.0 + momentum)) ** 2

    def gain(self, s: Settings, facts: GroupFacts) -> Value:
        return super().gain(s, facts) * (1.0 + 2.0 * s.momentum**2 * (facts.overlap or 0.0))

    def turn(self, s: Settings, facts: GroupFacts) -> Value:
        a, q = s.momentum, facts.overlap or 0.0
        bracket = 1.0 + 2.0 * a - 2.0 * a**3 + 2.0 * a**2 * (1.0 + a - a**2) * q
        return super().turn(s, facts) * bracket

    def step_ratio_sq(self, hp: HyperParameters, facts: GroupFacts) -> float:
        a, m, q = hp.intrinsic_lr, hp.momentum, _overlap(facts)
        along = 1.0 + 2.0 * m - 2.0 * m**3 + a * m * (1.0 + 3.0 * m + 2.0 * m**2)
        cross = 2.0 * m**2 * (1.0 + m - m**2) + a * m**3 * (1.0 + 2.0 * m)
        return 2.0 * a * (along + cross * q) / _push(a, m, q)

    def norm_share(self, a: float, m: float, facts: GroupFacts) -> float:
        share = _push(a, m, _overlap(facts))
        return share / ((1.0 - m + a * m) * (2.0 + 2.0 * m - a * (1.0 + 2.0 * m)))

    def balance_terms(self, hp: HyperParameters, gram: Gram, facts: GroupFacts) -> Pair:
        a, m = hp.intrinsic_lr, hp.momentum
        outward = (1.0 + m - m * a) * gram.dd + 2.0 * hp.lr * m * gram.dg
        return outward, 2.0 * a * gram.ww

    def memory(self, hp: HyperParameters, lost: float) -> tuple[float, float]:
        a, x = hp.momentum, hp.intrinsic_lr
        return 1.0 - a + x * (1.0 + a), x

    def carried(self, s: Steps, gram: Gram) -> Array:
        before = (gram.wd + gram.dd) / s.lr + gram.wg + gram.dg
        before = before + s.weight_decay * (gram.ww + gram.wd)
        return s.momentum[1:] ** 2 * (before / s.momentum)[:-1]

    def pull(self, s: Steps, gram: Gram) -> Array:
        return (1.0 + s.momentum) * super().pull(s, gram)

    def measured_drive(self, gram: Gram, s: Steps, numel: int) -> Array:
        return sphere.unit_gradient_norm(gram) ** 2

    def measured_overlap(self, gram: Gram, s: Steps) -> Array:
        return gram.ww * sphere.momentum_dot_gradient(
            gram, s.lr, s.weight_decay, s.momentum, nesterov=True
        )


def _push(a: float, m: float, q: float) -> float:
    """The factor by which |g̃|² drives the norm, overlap included; it must be positive."""
    push = 1.0 + m + a * m + 2.0 * a * m**2 + 2.0 * m**2 * (1.0 + m) * q
    if not push > 0:
        raise OutOfDomain(
            f"Nesterov: overlap <v, g>/|g|² must be > -{(1 + m + a * m) / (2 * m * m * (1 + m)):g} "
            f"for a norm at rest, got {q:g}: the gradients would undo the buffer."
        )
    return push


def _overlap(facts: GroupFacts) -> float:
    if facts.overlap is None:
        return 0.0
    if not math.isfinite(facts.overlap):
        raise InvalidArgument(f"overlap=... must be finite, got {facts.overlap}.")
    return float(facts.overlap)
