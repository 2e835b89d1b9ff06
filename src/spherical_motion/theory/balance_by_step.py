"""What turns a weight, at rest or not: the balance law, step by step.

For every weight, scale-invariant or not, |d|²/|w|² = f·(2η·pull + s·growth): decay and loss draw
the norm inward, steps along the sphere push it outward, and what is left over is growth. Growth is
0 in equilibrium; the pull is the weight decay alone where the loss does not act on the norm.
`balance_law` derives the exact form.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion import checks
from spherical_motion.checks import Array, numbers_in
from spherical_motion.errors import InvalidArgument
from spherical_motion.theory.balance_law import (
    BalanceLaw,
    BalanceSteps,
    Mask,
    Moves,
    before,
)
from spherical_motion.theory.families import law_of
from spherical_motion.theory.group import Fact, GroupFacts
from spherical_motion.theory.late_pull import counted_by_moves, idle
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary.gram import PRODUCTS, Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@checks.validated
def balance_steps(
    hp: HyperParameters,
    gram: Gram,
    *,
    steps: ArrayLike,
    lr: ArrayLike,
    weight_decay: ArrayLike,
    momentum: ArrayLike,
    first_step: int | None = None,
    correlation: Fact = None,
) -> BalanceSteps:
    """The two sides of the balance law at each recorded step; sums over any steps agree.

    For SGD (momentum, dampening, Nesterov, decoupled decay) an identity in the six products, under
    any schedule; for Adam and its relatives an identity with `wp` and `ws`, and without `ws` short
    of the part `change`. It holds from the first step on: nothing has to be at rest. A step at
    which a group had no gradient at all (d = 0, <w, g> = NaN) is left out, and the steps around it
    are neighbours: optimizers pass such a group by, and its averages stay as they are.

    Args:
        hp: names the optimizer; of its settings nesterov, dampening and decoupled count.
        gram: Grams of shape (steps,) or (steps, groups); adaptive optimizers need `wp`.
        steps: step numbers, shape (steps,), increasing.
        lr, weight_decay, momentum: settings per step, of the Grams' shape.
        first_step: number of the step that found the optimizer's averages empty, if known.
        correlation: c = 1 + 2Σρ_k of the updates, for optimizers of unknown rule with decoupled
            decay, as Muon; the law is then approximate.

    Returns:
        Arrays of the Grams' shape, NaN where the law links a step to one that was not recorded, or
        to one at which only a part of the group had a gradient.

    Raises:
        NoTheory: no balance law is known for this optimizer.
        InvalidArgument: arrays of different lengths, or a setting outside its range.

    Source: derived here (`theory.balance_law`).

    >>> w, g = np.array([3.0, 4.0]), np.array([0.4, -0.3])
    >>> d = -0.1 * (g + 0.5 * w)  # a step of SGD
    >>> gram = Gram(*([x] for x in (w @ w, w @ d, d @ d, w @ g, g @ g, d @ g)))
    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=0.5)
    >>> sides = balance_steps(hp, gram, steps=[0], lr=0.1, weight_decay=0.5, momentum=0.0)
    >>> sides.turned.round(6), (sides.decay + sides.loss + sides.growth).round(6)
    (array([0.065]), array([0.065]))
    """
    facts = GroupFacts(correlation=correlation)
    law, moves = read_moves(hp, gram, steps, lr, weight_decay, momentum, first_step, facts)
    return law.weigh(moves).moved(moves.rows)


def read_moves(
    hp: HyperParameters,
    gram: Gram,
    steps: ArrayLike,
    lr: ArrayLike,
    weight_decay: ArrayLike,
    momentum: ArrayLike,
    first_step: int | None,
    facts: GroupFacts,
) -> tuple[BalanceLaw, Moves]:
    """The law and the recorded steps, checked, with what each knows of the step before."""
    number = np.asarray(steps)
    if len(gram.shape) == 0 or number.shape != gram.shape[:1]:
        raise InvalidArgument(
            f"balance_steps(steps=...) must hold one number a step, shape {gram.shape[:1]}, got "
            f"shape {number.shape}. Pass the steps of the Grams, whose first axis is time."
        )
    if (np.diff(number) <= 0).any():
        raise InvalidArgument("balance_steps(steps=...) must increase from row to row.")
    rates, decays, momenta = (
        checks.fitted("balance_steps", name, _setting(name, values, below), gram.shape)
        for name, values, below in (
            ("lr", lr, math.inf),
            ("weight_decay", weight_decay, math.inf),
            ("momentum", momentum, 1.0),
        )
    )
    # A run that begins without momentum may be of a family with momentum.
    law = law_of(dataclasses.replace(hp, momentum=np.max(momenta, initial=0.0, where=momenta > 0)))
    column = (slice(None), *[None] * (len(gram.shape) - 1))
    number = number[column] + np.zeros(gram.shape)
    s, rows = Steps(rates, decays, momenta, hp.beta2), None
    missing = np.isnan(gram.wg) & np.isnan(gram.wp)
    skipped = idle(gram)
    if skipped.any():
        rows = np.argsort(~skipped, axis=0, kind="stable")
        gram, s, number, skipped, missing = _without_idle(gram, s, number, skipped, missing, rows)
    start, follows = _links(law, s, number, missing, first_step)
    return law, Moves(hp, gram, s, number, facts, start & ~skipped, follows, rows)


def shared_moves(
    hp: HyperParameters,
    gram: Gram,
    steps: NDArray[np.int64],
    s: Steps,
    first_step: int | None,
    facts: GroupFacts,
) -> tuple[BalanceLaw, Moves]:
    """`read_moves` for groups of the same settings, none of which was ever without a gradient.

    Args:
        hp: names the optimizer.
        gram: shape (steps, groups), with a finite <w, g> everywhere.
        steps: step numbers, shape (steps,), increasing.
        s: settings, lawful and of shape (steps,); they are kept in this size.
        first_step, facts: as `read_moves`.
    """
    law = law_of(dataclasses.replace(hp, momentum=np.max(s.momentum, initial=0.0)))
    number = steps.astype(np.float64)
    start, follows = _links(law, s, number, np.zeros(number.shape, bool), first_step)
    rates, decays, momenta = (x[:, None] for x in (s.lr, np.asarray(s.weight_decay), s.momentum))
    s = Steps(rates, decays, momenta, s.beta2)
    links = start[:, None], follows[:, None]
    return law, Moves(hp, gram, s, number[:, None], facts, *links)


def _without_idle(
    gram: Gram, s: Steps, number: Array, skipped: Mask, missing: Mask, rows: NDArray[np.intp]
) -> tuple[Gram, Steps, Array, Mask, Mask]:
    """The rows with idle ones first, and the others numbered as if those had not been."""

    def ordered(values: ArrayLike) -> Array:
        return np.take_along_axis(np.asarray(values), rows, axis=0)

    gram = Gram.from_array(np.stack([ordered(getattr(gram, name)) for name in PRODUCTS], axis=-1))
    s = Steps(ordered(s.lr), ordered(s.weight_decay), ordered(s.momentum), s.beta2)
    number = np.where(skipped, np.nan, counted_by_moves(number.astype(np.int64), skipped))
    return gram, s, ordered(number), ordered(skipped).astype(bool), ordered(missing).astype(bool)


def _links(
    law: BalanceLaw, s: Steps, number: Array, missing: Mask, first_step: int | None
) -> tuple[Mask, Mask]:
    """`start` and `follows` of `Moves`."""
    adjacent = number - before(number) == 1.0
    start = np.zeros(number.shape, bool) if first_step is None else number == first_step
    # Where a part of the group had no gradient, the step does not show that part's average.
    follows = adjacent & (before(missing) == 0.0)
    if law.keeps_buffer:
        # Without momentum the buffer is neither read nor written, so that the next step with
        # momentum finds it as it was: unknown, unless there never was one.
        plain = s.momentum == 0.0
        if plain.any():
            start = carried_on(start, adjacent & (before(plain) == 1.0))
        follows &= before(plain) == 0.0
    return start, follows


def carried_on(found: Mask, links: Mask) -> Mask:
    """`found`, and with each place those after it up to the first that is not linked.

    >>> found, links = np.array([0, 1, 0, 0, 0], bool), np.array([0, 1, 1, 1, 0], bool)
    >>> carried_on(found, links).astype(int)
    array([0, 1, 1, 1, 0])
    """
    place = np.arange(1, len(found) + 1).reshape(-1, *[1] * (found.ndim - 1))
    last = np.maximum.accumulate(np.where(found, place, 0), axis=0)
    broken = np.maximum.accumulate(np.where(links, 0, place), axis=0)
    return (last >= broken) & (last > 0)


def _setting(name: str, values: ArrayLike, below: float) -> Array:
    """Values of a setting, which may be NaN where they were not recorded."""
    array = np.asarray(values, np.float64)
    numbers_in("balance_steps", name, array[~np.isnan(array)], least=0.0, below=below)
    return array
