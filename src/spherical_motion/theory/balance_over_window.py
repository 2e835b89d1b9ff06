"""The balance law summed over a window of one group, and what it says of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.theory.balance_by_step import read_moves
from spherical_motion.theory.balance_law import CANCELS, BalanceLaw, BalanceSteps, Mask, Moves
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.theory.rounding import rounding_error
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters, pull_scale

SHORTEST = 3.0
"""Fewest steps of a window, in units of the optimizer's memory 1/(1 - α)."""

CHANGES = 0.2
"""How fast a preconditioner may change beside the average, (1 - β2)/(1 - β1), with S not measured.

At .2 (β2 = .98 beside β1 = .9) S is up to 4% of the law on hidden layers and on entries that are
active in a tenth of the steps, and 19% on an output layer; at .5 (β2 = .95) 11% and 65%; at .1
(β2 = .99) 1% and 9%.
"""

ROUNDED = 0.02
"""Share of the law from which on rounding of the weights leaves no ratio."""


@dataclasses.dataclass(frozen=True, slots=True)
class Balance:
    """The balance law summed over a window of one group; NaN marks what is not known.

    Attributes:
        ratio: √(Σturned / Σlaw), measured over predicted length of the steps: 1 where the steps are
            what the settings, the loss and the growth say.
        pull: p, how strongly decay and loss together draw the weights inward, in units of weight
            decay; the mean over the window with weights ηR.
        decay: the weight decay in it; NaN for Adam with L2, where it cannot be told from the loss.
        growth: γ, the change of |w|² in a step over |w|².
        expected: f(2ηp + sγ), what |d|²/|w|² should be, from pull and growth alone.
        amplification: how much larger the largest term of the law is than what is left of them;
            above 5 a few percent of error in a term are an interval of the ratio, not a number.
        change_share: the part of the law that is the change of the preconditioner; 0 where there
            is none.
        rounding: the error of the law that rounding of the weights leaves, as a share of it; 0
            where their dtype was not told.
        steps: steps that were used.
        left_out: recorded steps that were not, since the one before is not known, or the group had
            no gradient.
        neglects: what the law leaves out here, in words; empty if nothing.
        unknown: why there is no ratio; empty if there is one.
    """

    ratio: float = math.nan
    pull: float = math.nan
    decay: float = math.nan
    growth: float = math.nan
    expected: float = math.nan
    amplification: float = math.nan
    change_share: float = math.nan
    rounding: float = 0.0
    steps: int = 0
    left_out: int = 0
    neglects: str = ""
    unknown: str = ""

    @property
    def decay_share(self) -> float:
        """Weight decay over the pull: 1 where the loss does not act on the norm.

        Above 1 the loss cancels a part of the decay, below 1 it adds to it; negative where it
        cancels more than all of it and drives the norm outward.
        """
        return self.decay / self.pull if self.pull else math.nan


@checks.validated
def balance(
    hp: HyperParameters,
    gram: Gram,
    *,
    steps: ArrayLike,
    lr: ArrayLike,
    weight_decay: ArrayLike,
    momentum: ArrayLike,
    first_step: int | None = None,
    correlation: Fact = None,
    dtype: str | None = None,
    numel: int = 1,
) -> Balance:
    """The balance law over a window of one group: does it turn as decay, loss and growth say?

    The steps may be a contiguous window or bursts of adjacent steps, under any schedule: both sides
    are summed. Where `ws` was measured at some steps only, its mean stands for the others.

    Args:
        hp: names the optimizer; `beta2` says how fast its preconditioner changes.
        gram: Grams of shape (steps,).
        steps, lr, weight_decay, momentum, first_step, correlation: as `balance_steps`.
        dtype: of the weights, such as "float32"; left out, they are not asked about rounding.
        numel: entries of the group, over which the errors of rounding average out.

    Returns:
        A `Balance`. Its `unknown` says why it has no ratio: no law for this optimizer, `wp` not
        measured, fewer steps than 3/(1 - α), terms that cancel, a preconditioner that changes as
        fast as the average.

    Raises InvalidArgument: arrays of different lengths, or a setting outside its range.

    Source: derived here (`theory.balance_law`).

    >>> from spherical_motion import simulate
    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=0.01, momentum=0.9)
    >>> walk = simulate.random_walk(hp, steps=200)
    >>> settings = {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}
    >>> found = balance(hp, walk.gram[:, 0], steps=np.arange(200), **settings)
    >>> round(found.ratio, 9), round(found.pull, 9), found.growth > 0  # it grows from |w| = 1
    (1.0, 0.01, True)
    """
    if len(gram.shape) != 1:
        raise InvalidArgument(
            f"balance(gram=...) expects Grams of shape (steps,), got {gram.shape}. Pass one group: "
            "gram[:, i]."
        )
    try:
        facts = GroupFacts(correlation=correlation)
        law, moves = read_moves(hp, gram, steps, lr, weight_decay, momentum, first_step, facts)
        sides = law.weigh(moves)
    except NoTheory as reason:
        return Balance(unknown=str(reason), left_out=len(gram.ww))
    used = np.isfinite(sides.turned) & np.isfinite(sides.loss) & np.isfinite(sides.growth)
    found = _shares(law, moves, used)
    law_sum, change, measured = _law_sum(sides, used)
    neglects = law.neglects
    if law.changes and measured:
        neglects = (
            "" if measured == 1.0 else f"{law.neglects}, known at {measured:.0%} of the steps"
        )
    turned = float(sides.turned[used].sum())
    least = law_sum if law_sum > 0 else turned
    found = dataclasses.replace(
        found,
        rounding=_rounding(moves, used, dtype, numel) / least if least > 0 else 0.0,
        change_share=change / law_sum if law_sum and not math.isnan(change) else math.nan,
        neglects=neglects,
    )
    memory = 1.0 / (1.0 - float(np.nanmax(moves.s.momentum)))
    unmeasured = law.preconditioned and not np.isfinite(moves.gram.wp).any()
    unknown = why_unsaid(found, memory, unmeasured=unmeasured)
    if not unknown and found.rounding > ROUNDED:
        length = math.sqrt(float(gram.dd.mean() / gram.ww.mean()))
        unknown = too_fine(dtype, found.rounding, length)
    unknown = unknown or why_unknown(law, hp, memory, found, law_sum, measured)
    if unknown:
        return dataclasses.replace(found, unknown=unknown)
    return dataclasses.replace(found, ratio=math.sqrt(max(turned, 0.0) / law_sum))


@checks.validated
def boundary_error(gram: Gram, momentum: float) -> float:
    """Standard error of a window's ratio ΣD/Σlaw where the terms of its two ends are left out.

    2√2·α·sd(C + D)/((1 + α)·N·mean D): it falls as 1/N, and is 1% at α = .9 after about 1,000
    steps. `balance` puts these terms in; what is left for SGD is rounding, and for Adam noise of S.

    Args:
        gram: N steps of one group, shape (steps,).
        momentum: α, or β1.

    Source: derived here; the ends are two independent draws of 2α(C + D).

    >>> rng = np.random.default_rng(0)
    >>> noise = rng.standard_normal((1000, 6))
    >>> gram = Gram.from_array(np.array([1.0, 0.0, 0.1, 0.0, 1.0, 0.0]) + 0.02 * noise)
    >>> round(boundary_error(gram, 0.9), 4)
    0.0004
    """
    checks.number("boundary_error", "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    spread = float(np.std(gram.wd + gram.dd))
    size = len(gram.ww) * float(np.mean(gram.dd)) * (1.0 + momentum)
    return 2.0 * math.sqrt(2.0) * momentum * spread / size if size > 0 else math.nan


def _shares(law: BalanceLaw, moves: Moves, used: Mask) -> Balance:
    """Pull, decay and growth over the steps that are used, and what |d|²/|w|² they ask for."""
    counts = Balance(steps=int(used.sum()), left_out=int((~used).sum()))
    gram, decoupled = moves.gram[used], bool(moves.hp.decoupled)
    s = _settings(moves, used)
    lr, weight_decay, momentum = s.lr, np.asarray(s.weight_decay), s.momentum
    weight = lr * gram.ww
    if not weight.sum() > 0:
        return counts
    scale = pull_scale(moves.hp, momentum)
    inward = lr * scale * law.inner(moves)[used]
    decay = weight * weight_decay * (1.0 if decoupled else scale)
    if not decoupled and law.preconditioned and weight_decay.any():
        decay = np.full_like(decay, np.nan)  # it stands inside <w, Px>
    pull = float((inward + decay if decoupled else inward).sum() / weight.sum())
    growth = float((2.0 * gram.wd + gram.dd).sum() / gram.ww.sum())
    size = gram.ww / gram.ww.sum()  # the settings over the window have the weights |w|²
    rate, decayed, kept = ((x * size).sum() for x in (lr, weight_decay, momentum))
    mean = Steps(rate, decayed, kept, moves.hp.beta2)
    f, share = (float(x) for x in law.form(mean, moves.facts))
    held = 2.0 * float(mean.lr) * float(decay.sum() / weight.sum())
    drawn, grown = 2.0 * float(mean.lr) * pull, share * growth
    left = drawn + grown
    return dataclasses.replace(
        counts,
        pull=pull,
        decay=float(decay.sum() / weight.sum()),
        growth=growth,
        expected=f * left,
        amplification=float(np.nanmax(np.abs([held, drawn, grown])) / abs(left))
        if left
        else math.inf,
    )


def _settings(moves: Moves, used: Mask) -> Steps:
    """The settings of the steps that are used."""
    s = moves.s
    decay = np.asarray(s.weight_decay)
    return Steps(s.lr[used], decay[used], s.momentum[used], s.beta2)


def _rounding(moves: Moves, used: Mask, dtype: str | None, numel: int) -> float:
    """What rounding may leave of the law; 0 if the dtype is not known."""
    if dtype is None:
        return 0.0
    return rounding_error(moves.hp, moves.gram[used], _settings(moves, used), dtype, numel)


def too_fine(dtype: str | None, rounding: float, length: float) -> str:
    """That rounding may be a large share of the law, for steps of this relative length."""
    size = "100% and more" if rounding >= 1.0 else f"{rounding:.0%}"
    return (
        f"{dtype} rounding of the weights may be {size} of what the law compares, since a step "
        f"is {length:.0e} of the weights"
    )


def _law_sum(sides: BalanceSteps, used: Mask) -> tuple[float, float, float]:
    """(Σ law, Σ change in it or NaN, share of the steps at which the change was measured)."""
    change, known = sides.change[used], np.isfinite(sides.change[used])
    rest = float((sides.law - np.where(np.isfinite(sides.change), sides.change, 0.0))[used].sum())
    measured = float(known.mean()) if known.size else 0.0
    if not measured:
        return rest, math.nan, 0.0
    total = float(change[known].sum()) / measured
    return rest + total, total, measured


def why_unsaid(found: Balance, memory: float, *, unmeasured: bool) -> str:
    """Why the window says nothing; empty if it does.

    Args:
        found: the shares of the window.
        memory: 1/(1 - α) at the largest momentum.
        unmeasured: whether the law needs <w, Px> and no step has it.
    """
    if unmeasured:
        return "the product <w, Px> was not measured"
    if math.isnan(found.growth):
        return "nothing moved" if found.steps else "no step follows one that was recorded"
    if found.steps < SHORTEST * memory:
        return f"{found.steps} steps are fewer than 3/(1 - momentum) = {SHORTEST * memory:.0f}"
    return ""


def why_unknown(
    law: BalanceLaw, hp: HyperParameters, memory: float, found: Balance, law_sum: float,
    measured: float,
) -> str:  # fmt: skip
    """Why what it says is no ratio; empty if it is."""
    beta2 = 1.0 if hp.beta2 is None else hp.beta2
    if law.changes and not measured and (1.0 - beta2) * memory > CHANGES + 1e-9:
        return (
            f"the preconditioner changes as fast as the average (beta2={beta2:g}), and its change "
            + ("was not measured (products=8 measures it)" if law.exact else "is left out")
        )
    neglects = not law.exact or (law.changes and measured < 1.0)
    if neglects and found.amplification > CANCELS:
        return (
            f"decay, loss and growth cancel to 1/{found.amplification:.0f} of the largest of them, "
            "less than what the law neglects"
            + (" (products=8 measures it)" if law.changes and law.exact else "")
        )
    if not law_sum > 0:
        return "decay, loss and growth together would not turn the weights at all"
    return ""
