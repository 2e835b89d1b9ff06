"""What every step must balance: turning on one side, decay, loss and growth on the other.

Most optimizers step by a running average b of preconditioned gradients,

    d_t = -η_t(δ_t w_t + P_t b_t),    b_t = β_t b_{t-1} + θ_t x_t,

with δ the decay of the weights themselves, P the diagonal preconditioner (1 for SGD) and x what
enters the average: g, or g + λw where decay acts through the gradient. Write u_t = P_t b_t,
R = |w|², D = |d|², C = <w, d>, G_t = R_{t+1} - R_t = 2C + D, X = <w, Px> and
S_t = <w_t, (P_t - P_{t-1})b_{t-1}>. The step itself holds u_t = -(d_t/η_t + δ_t w_t), so that

    <w_t, u_t> = β_t(<w_t, u_{t-1}> + S_t) + θ_t X_t,    <w_t, u_t> = -(C/η + δR)_t,
    e_{t-1} = <w_t, u_{t-1}> = <w_{t-1} + d_{t-1}, u_{t-1}> = -[(C + D)/η + δ(R + C)]_{t-1}.

Times 2η_t, with ρ_t = η_t/η_{t-1}, every step has

    D_t + β_t(ρ_t - η_tδ_{t-1})D_{t-1} =
        2η_t(δ_tR_t - β_tδ_{t-1}R_{t-1} + θ_tX_t + β_tS_t) + G_t - β_t(ρ_t + η_tδ_{t-1})G_{t-1}.

It is an identity: nothing is assumed of the loss, of rest, or of the rates. Where the step before
was very small (η_{t-1} = 0 in the extreme) it does not show its u, and rounding would be magnified
by ρ. There e_{t-1} comes from the step before that: e_t = β_t(e_{t-1} + S_t) + θ_tX_t -
(D/η + δC)_t. `families` says what β, θ, δ and X are; Nesterov has its own.

The sum over a window, for constant rates and without the terms of its two ends, is the readable
form D/R = f(2ηp + sγ), with the pull p = δ + cX/R and the growth γ = (R_{N+1} - R_1)/ΣR.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.settings import Array, Settings, Steps, Value
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

Mask: TypeAlias = NDArray[np.bool_]

SMALL_RATE = 1e-2
"""Share of the next rate below which a step is too small to show what the optimizer averaged."""

CANCELS = 20.0
"""Amplification from which what is neglected or misread may be larger than what is left."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BalanceSteps:
    """The two sides of the balance at each step, in units of |w|²; arrays of the Grams' shape.

    Σturned = Σ(decay + loss + growth + change) over any steps. Each value is NaN at a step whose
    predecessor was not recorded, so that windows, schedules and bursts are sums over what is left.

    Attributes:
        turned: about D, the squared length of the step; exactly D without momentum.
        decay: what weight decay contributes; NaN where it acts inside a preconditioner (Adam with
            L2), which does not let it be told from the loss.
        loss: what the loss contributes; together with decay where that is NaN.
        growth: what the change of |w|² contributes.
        change: what the change of the preconditioner contributes, S; 0 where there is none, NaN
            where `ws` was not measured, or the law leaves S out.
        growth_share: the weight of the change of |w|² in `growth`, once the momentum has played
            out: Σgrowth is about Σgrowth_share·G, and exactly so without momentum.
    """

    turned: Array
    decay: Array
    loss: Array
    growth: Array
    change: Array
    growth_share: Array

    @property
    def law(self) -> Array:
        """The right side; without `change` where that was not measured."""
        known = [np.where(np.isnan(part), 0.0, part) for part in (self.decay, self.change)]
        return self.loss + self.growth + known[0] + known[1]

    def moved(self, rows: NDArray[np.intp] | None) -> BalanceSteps:
        """The parts where they belong: each row moved to the place that `rows` names."""
        if rows is None:
            return self

        def moved(part: Array) -> Array:
            found = np.empty_like(part)
            np.put_along_axis(found, rows, part, axis=0)
            return found

        return BalanceSteps(*(moved(getattr(self, f.name)) for f in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Recorded steps as a law reads them; arrays of the Grams' shape, steps first.

    In each column the rows without a gradient come first, where they are in nobody's way.

    Attributes:
        hp: names the optimizer; the settings that may change are in `s`.
        gram: products of the steps.
        s: settings of each step.
        steps: number of each step, not counting those without a gradient; NaN there.
        facts: what is known of the group.
        start: whether this step found the optimizer's average empty.
        follows: whether the step before is the row before, and shows the average.
        rows: the place of each row in the record; None where all are in its order.
    """

    hp: HyperParameters
    gram: Gram
    s: Steps
    steps: Array
    facts: GroupFacts
    start: Mask
    follows: Mask
    rows: NDArray[np.intp] | None = None


def before(values: ArrayLike) -> Array:
    """The values one step earlier, NaN at the first."""
    values = np.asarray(values, np.float64)
    return np.concatenate([np.full_like(values[:1], np.nan), values[:-1]])


def after(values: ArrayLike) -> Array:
    """The values one step later, NaN at the last."""
    values = np.asarray(values, np.float64)
    return np.concatenate([values[1:], np.full_like(values[:1], np.nan)])


class BalanceLaw(abc.ABC):
    """The balance law of an optimizer; `families` holds one for each rule.

    Attributes:
        preconditioned: whether it needs the product `wp`.
        changes: whether S counts, since the preconditioner stands outside the average. A law that
            is not exact leaves S out.
        keeps_buffer: whether a step without momentum leaves the buffer as it is, as torch's SGD
            and RMSprop do.
        last_resort: whether any other law of the same optimizer goes before this one.
        exact: whether the law is an identity in the recorded products, with `ws` if S counts.
        neglects: what it leaves out, in words; empty if nothing.
    """

    preconditioned: ClassVar[bool] = False
    changes: ClassVar[bool] = False
    keeps_buffer: ClassVar[bool] = False
    last_resort: ClassVar[bool] = False
    exact: ClassVar[bool] = True
    neglects: ClassVar[str] = ""

    @abc.abstractmethod
    def form(self, s: Settings, facts: GroupFacts) -> tuple[Value, Value]:
        """(f, s) of the readable form D/R = f(2ηp + sγ)."""

    @abc.abstractmethod
    def weigh(self, moves: Moves) -> BalanceSteps:
        """The two sides of the balance at each step."""

    @abc.abstractmethod
    def growth_share(self, moves: Moves) -> Value:
        """`BalanceSteps.growth_share`: that of the steps summed, which may differ from f·s."""

    def inner(self, moves: Moves) -> Array:
        """X = <w, Px> of each step."""
        return moves.gram.wp

    def rest_ratio_sq(self, hp: HyperParameters, pull: float, facts: GroupFacts) -> float:
        """|d|²/|w|² at rest under this pull: f·2ηp."""
        return float(self.form(hp, facts)[0] * 2.0 * hp.lr * pull)


class AverageLaw(BalanceLaw):
    """The identity of the module's docstring. A family says what it keeps and what is fresh."""

    @abc.abstractmethod
    def kept(self, moves: Moves) -> Array:
        """β_t, what is left of the last update in this one, whether there was one or not."""

    @abc.abstractmethod
    def fresh(self, moves: Moves) -> tuple[Array, Array]:
        """Inner product of w with the new part of the update: (weight decay's share, all)."""

    def own_decay(self, moves: Moves) -> Array:
        """δ_t, the decay that acts on the weights themselves."""
        nothing = np.zeros(moves.s.lr.shape)
        return np.asarray(moves.s.weight_decay) + nothing if moves.hp.decoupled else nothing

    def weigh(self, moves: Moves) -> BalanceSteps:
        gram, lr, delta = moves.gram, moves.s.lr, self.own_decay(moves)
        grown = 2.0 * gram.wd + gram.dd
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            kept = self.kept(moves)
            kept = np.where(moves.follows, kept, np.nan)
            kept = np.where(moves.start | (moves.s.momentum == 0.0), 0.0, kept)
            decay, fresh = self.fresh(moves)
            change = np.where(kept == 0.0, 0.0, kept * (gram.ws if self.changes else 0.0))
            small = (lr == 0.0) | (lr < SMALL_RATE * after(lr))
            hidden = self._hidden(moves, kept, fresh, change, delta, small)
            hides = before(small) != 0.0  # True in the first row, too
            ratio, pull = (np.where(hides, 0.0, x) for x in (lr / before(lr), lr * before(delta)))

            def carried(part: Array, share: Array) -> Array:
                return np.where(kept * share == 0.0, 0.0, kept * share * before(part))

            held = np.where(lr == 0.0, 0.0, carried(hidden, hides.astype(np.float64)))
            own = lr * delta * gram.ww - carried(gram.ww, pull)
            parts = (
                gram.dd + carried(gram.dd, ratio - pull),
                2.0 * (own + lr * decay),
                2.0 * lr * (fresh - np.where(np.isnan(decay), 0.0, decay) + held),
                grown - carried(grown, ratio + pull),
                2.0 * lr * change,
            )
            # A kept share of NaN, where the step before is not known, makes every part NaN.
            share = self.growth_share(moves) + 0.0 * kept
            turned, owned, lost, growth, changed = (part / (1.0 + kept) for part in parts)
            return BalanceSteps(turned, owned, lost, growth, changed, share)

    def growth_share(self, moves: Moves) -> Array:
        # With constant settings; β is α, also where it is α_t²/α_{t-1}.
        kept, lost = moves.s.momentum, moves.s.lr * self.own_decay(moves)
        return (1.0 - kept - kept * lost) / (1.0 + kept)

    def _hidden(
        self, moves: Moves, kept: Array, fresh: Array, change: Array, delta: Array, small: Mask
    ) -> Array:
        """e_t = <w_{t+1}, u_t> of each step, by recursion where the step is too small to show it.

        A change of the preconditioner that was not measured is left out.
        """
        gram, lr = moves.gram, moves.s.lr
        seen = -((gram.wd + gram.dd) / lr + delta * (gram.ww + gram.wd))
        new = fresh + np.where(np.isnan(change), 0.0, change)
        new = new - np.where(lr > 0, gram.dd / lr + delta * gram.wd, 0.0)
        for row in np.flatnonzero(small.reshape(len(small), -1).any(axis=1)):
            past = np.where(kept[row] == 0.0, 0.0, kept[row] * seen[row - 1])
            seen[row] = np.where(small[row], past + new[row], seen[row])
        return seen


class ReadableLaw(BalanceLaw):
    """D = f(2η(δR + X) + sG) at each step: no identity, and no need of the step before."""

    exact = False

    def forms(self, moves: Moves) -> tuple[Value, Value]:
        """(f, s) at each step."""
        return self.form(moves.s, moves.facts)

    def weigh(self, moves: Moves) -> BalanceSteps:
        gram, (f, _) = moves.gram, self.forms(moves)
        doubled = 2.0 * moves.s.lr * f
        decayed = doubled * moves.s.weight_decay * gram.ww
        inner, none = self.inner(moves), 0.0 * moves.steps  # NaN without a gradient
        if moves.hp.decoupled:
            decay, loss = decayed, doubled * inner
        else:
            decay, loss = np.where(decayed == 0.0, 0.0, np.nan), doubled * inner
        share = np.asarray(self.growth_share(moves)) + np.zeros(gram.shape)
        growth = share * (2.0 * gram.wd + gram.dd)
        change = np.full(gram.shape, np.nan) if self.changes else none
        return BalanceSteps(gram.dd + none, decay, loss, growth, change, share)

    def growth_share(self, moves: Moves) -> Value:
        f, s = self.forms(moves)
        return f * s
