"""The laws on a window of recorded steps: plain, at rest with the pull, and the balance law.

Written out from the optimizer's update rule, apart from the library's theory, so that the two can
be held against each other. Let d = -η(δw + Pb) with b = αb' + θx, where a prime marks the step
before, and R, C, D = <w,w>, <w,d>, <d,d>, G = 2C + D, X = <w,Px>, S = <w,(P - P')b'>. Multiply
the step by w and put the last step's -<w,P'b'> = (C' + D')/η' + δ'(R' + C') into it:

    G - D + 2ηδR = α(η/η')(G' + D') + αηδ'(2R' + G' - D') - 2αηS - 2θηX

Nesterov steps along x + αb. Its average is not seen; u = x + αb obeys u = αu' + (1+α)x - αx'.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rule", "Window", "spans", "terms", "window", "windows"]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """An optimizer's rule: "SGDM", "Nesterov", "Adam" or "AdamW", its momentum and decay."""

    optimizer: str
    momentum: float
    weight_decay: float

    @property
    def theta(self) -> float:
        return 1.0 if self.optimizer in ("SGDM", "Nesterov") else 1.0 - self.momentum

    @property
    def decoupled(self) -> float:
        return self.weight_decay if self.optimizer == "AdamW" else 0.0

    @property
    def share(self) -> float:
        """D/R over 2η·pull at rest, for gradients that are new at every step."""
        a = self.momentum
        if self.optimizer == "SGDM":
            return 1.0 / (1.0 + a)
        if self.optimizer == "Nesterov":
            return (1.0 + 2.0 * a - 2.0 * a**3) / (1.0 + a)
        return (1.0 - a) / (1.0 + a)


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """What one matrix did in one window, roots of measured over predicted sums of |d|².

    Attributes:
        plain: over the plain law, where weight decay is the only pull.
        rest: over the law at rest, with the measured pull.
        balance: over the balance law, without S where the optimizer has it.
        exact: over the balance law with S.
        pull, weight_decay: how strongly all draws the weights inward, and decay alone.
        growth, change: these terms over the law.
        amplification: largest term of the law over their sum.
    """

    plain: float
    rest: float
    balance: float
    exact: float
    pull: float
    weight_decay: float
    growth: float
    change: float
    amplification: float


def windows(
    rule: Rule, products: Array, rates: Array, *, start: int = 200, length: int = 500
) -> list[Window]:
    """The windows of `length` steps that fit after `start`; a shorter rest joins the last.

    `products` are (steps, 8) and `rates` (steps,).
    """
    return [window(rule, products, rates, *span) for span in spans(len(rates), start, length)]


def spans(steps: int, start: int, length: int) -> list[tuple[int, int]]:
    """First step of each window, and the step after its last.

    >>> spans(1700, 200, 600)
    [(200, 800), (800, 1700)]
    """
    count = max(1, (steps - start) // length)
    return list(itertools.pairwise([*(start + i * length for i in range(count)), steps]))


def window(rule: Rule, products: Array, rates: Array, first: int, last: int) -> Window:
    """The laws on steps first, ..., last - 1."""
    turned, decay, loss, growth, change = (
        x[first - 1 : last - 1].sum() for x in terms(rule, products, rates)
    )
    at, eta = slice(first, last), rates[first:last]
    ww, dd = products[at, 0], products[at, 2]
    x = products[at, 6]
    drawn = 2.0 * (eta * (rule.decoupled * ww + x)).sum() * rule.share
    plain = 2.0 * (eta * rule.weight_decay * ww).sum() * rule.share
    law = decay + loss + growth
    pull = (eta * (rule.decoupled * ww + x)).sum() / (eta * ww).sum()
    return Window(
        plain=root(dd.sum(), plain),
        rest=root(dd.sum(), drawn),
        balance=root(turned, law),
        exact=root(turned, law + change),
        pull=pull,
        weight_decay=rule.weight_decay,
        growth=growth / (law + change),
        change=change / (law + change),
        amplification=max(abs(decay), abs(loss), abs(growth)) / abs(law),
    )


def terms(rule: Rule, products: Array, rates: Array) -> tuple[Array, ...]:
    """Of steps 1, 2, ...: what turned, and decay, loss, growth and S, whose sum it equals."""
    ww, wd, dd, wg, _, dg, wp, ws = products.T
    a, delta, lam = rule.momentum, rule.decoupled, rule.weight_decay
    eta, ratio, grown = rates[1:], a * rates[1:] / rates[:-1], 2.0 * wd + dd
    growth = grown[1:] - ratio * grown[:-1]
    turned = dd[1:] + ratio * dd[:-1]
    if rule.optimizer == "Nesterov":
        along = dg + lam * wd
        coupled = wg + lam * ww
        ahead = (1.0 + a) * coupled[1:] - a * coupled[:-1] - a * along[:-1]
        decay = 2.0 * eta * lam * ((1.0 + a) * ww[1:] - a * (ww + wd)[:-1])
        return turned, decay, 2.0 * eta * ahead - decay, growth, np.zeros_like(eta)
    turned = turned - a * eta * delta * dd[:-1]
    decay = 2.0 * eta * delta * ww[1:] - a * eta * delta * (2.0 * ww + grown)[:-1]
    loss = 2.0 * rule.theta * eta * wp[1:]
    if rule.optimizer == "SGDM":
        decay = 2.0 * eta * lam * ww[1:]
        loss = loss - decay
    change = 2.0 * a * eta * ws[1:] if rule.theta != 1.0 else np.zeros_like(eta)
    return turned, decay, loss, growth, change


def root(measured: float, predicted: float) -> float:
    """√(measured/predicted), NaN where no motion is predicted."""
    return float(np.sqrt(measured / predicted)) if predicted > 0.0 < measured else float("nan")
