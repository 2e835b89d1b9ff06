"""One row a family: the law by which its norm relaxes, and how far it turns meanwhile.

One power y of the norm obeys, to leading order in ηλ, dy/dt = gain·drive - rate·y, while the
steps are |d|²/|w|² = turn·drive/y. Everything else follows: the rest y* = gain·drive/rate, the
angle there Δ*² = turn·rate/gain, which the drive has left, and the way towards both.

==================  =====  ============  ============  ============================  =========
family              y      rate          gain          turn                          drive
==================  =====  ============  ============  ============================  =========
heavy ball, L2      |w|⁴   4ηλ/(1 - α)   2η²/(1 - α)²  η²/(1 - α²)                   h̃
Nesterov, L2        |w|⁴   4ηλ/(1 - α)   2η²/(1 - α)²  η²(1 + 2α - 2α³)/(1 - α²)     |g̃|²
heavy ball, dec.    |w|⁴   4ηλ           2η²/(1 - α)²  η²/(1 - α²)                   h̃
AdamW               |w|²   2ηλ           η²            η²(1 - β1)/(1 + β1)           numel
Lion                |w|²   2ηλ           η²c           η²                            numel
any decoupled       |w|²   2ηλ           η²c           η²                            mean |u|²
Adam, L2            |w|²   not linear: 2ηλ|w|³/σ pulls  η²(1 - β1)/(1 + β1)          numel
==================  =====  ============  ============  ============================  =========

Nesterov's gain and turn are those of uncorrelated gradients. Otherwise, with the overlap
q = <v_{t-1}, g>/|g|², the gain is multiplied by 1 + 2α²q (the heavy ball has 1 + 2αq in its h̃), and
the turn's bracket grows by 2α²(1 + α - α²)q.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from spherical_motion.errors import InvalidArgument
from spherical_motion.theory._families import Family, Given, check_names, family_of, positive
from spherical_motion.theory.adaptive import lion_correlation
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = ["AdamL2", "Law", "Settings", "Steps", "law_of", "lion_beta2"]


class Settings(Protocol):
    """What the formulas read: `HyperParameters`, or a `Steps` with one value a step."""

    @property
    def lr(self) -> Any: ...
    @property
    def weight_decay(self) -> Any: ...
    @property
    def momentum(self) -> Any: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """Settings that change from step to step: arrays that broadcast against each other."""

    lr: Any
    weight_decay: Any
    momentum: Any


class Law(Protocol):
    """A row of the table above."""

    @property
    def power(self) -> int: ...
    @property
    def drive(self) -> str: ...

    def rate(self, s: Settings, /) -> Any: ...
    def gain(self, s: Settings, /) -> Any: ...
    def turn(self, s: Settings, /) -> Any: ...


@dataclasses.dataclass(frozen=True, slots=True)
class SgdLaw:
    """The SGD families: the pull acts on the buffer (L2) or on the weights (decoupled)."""

    decoupled: bool = False
    nesterov: bool = False
    overlap: float = 0.0
    power: int = 4
    drive: str = "unit_grad_sq"

    def rate(self, s: Settings, /) -> Any:
        rate = 4.0 * s.lr * s.weight_decay
        return rate if self.decoupled else rate / (1.0 - s.momentum)

    def gain(self, s: Settings, /) -> Any:
        gain = 2.0 * (s.lr / (1.0 - s.momentum)) ** 2
        return gain * (1.0 + 2.0 * s.momentum**2 * self.overlap) if self.nesterov else gain

    def turn(self, s: Settings, /) -> Any:
        a, q = s.momentum, self.overlap
        turn = s.lr**2 / (1.0 - a**2)
        if self.nesterov:
            turn = turn * (1.0 + 2.0 * a - 2.0 * a**3 + 2.0 * a**2 * (1.0 + a - a**2) * q)
        return turn


@dataclasses.dataclass(frozen=True, slots=True)
class UnitStepLaw:
    """Decoupled decay and updates whose size does not depend on the norm.

    `growth` is what mean |u|²·c comes to per unit of drive, `length` what mean |u|² does; both
    functions of the settings.
    """

    growth: Any
    length: Any
    power: int = 2
    drive: str = "numel"

    def rate(self, s: Settings, /) -> Any:
        return 2.0 * s.lr * s.weight_decay

    def gain(self, s: Settings, /) -> Any:
        return s.lr**2 * self.growth(s)

    def turn(self, s: Settings, /) -> Any:
        return s.lr**2 * self.length(s)


@dataclasses.dataclass(frozen=True, slots=True)
class AdamL2:
    """Adam with L2: d|w|²/dt = η²·numel - 2ηλ|w|³/σ; σ/|w| is what Adam divides the decay by.

    Rate and gain are those of small deviations from rest: 3ηλ|w*|/σ and what keeps y* in place.
    """

    rms: float
    numel: float
    power: int = 2
    drive: str = "numel"

    def norm(self, s: Settings) -> Any:
        """|w*| = (η·numel·σ/(2λ))^⅓."""
        return (s.lr * self.numel * self.rms / (2.0 * s.weight_decay)) ** (1.0 / 3.0)

    def rate(self, s: Settings, /) -> Any:
        return 3.0 * s.lr * s.weight_decay * self.norm(s) / self.rms

    def gain(self, s: Settings, /) -> Any:
        return s.lr**2 * 1.5

    def turn(self, s: Settings, /) -> Any:
        return s.lr**2 * (1.0 - s.momentum) / (1.0 + s.momentum)


def law_of(hp: HyperParameters, given: Given, function: str) -> Law:
    """The row of the table for these settings.

    Raises:
        NoTheory: no row, or the steps' correlation is not given.
        InvalidArgument: something the row needs of the group is missing.
    """
    check_names(given, function)
    family = family_of(hp)
    if family is Family.HEAVY_BALL_L2:
        return SgdLaw()
    if family is Family.NESTEROV_L2:
        return SgdLaw(nesterov=True, overlap=float(given.get("overlap") or 0.0))
    if family is Family.HEAVY_BALL_DECOUPLED:
        return SgdLaw(decoupled=True)
    if family is Family.ADAM_L2:
        rms = positive(given, "unit_grad_rms", hp, function)
        return AdamL2(rms, positive(given, "numel", hp, function))
    if family is Family.ADAMW:
        return UnitStepLaw(_one, lambda s: (1.0 - s.momentum) / (1.0 + s.momentum))
    if family is Family.LION:
        beta2 = lion_beta2(hp, function)
        return UnitStepLaw(lambda s: lion_correlation(s.momentum, beta2), _one)
    correlation = positive(given, "correlation", hp, function)
    return UnitStepLaw(lambda s: correlation, _one, drive="update_sq")


def lion_beta2(hp: HyperParameters, function: str) -> float:
    """β2 of Lion, which has no default here."""
    if hp.beta2 is None:
        raise InvalidArgument(f"{function}: Lion's formulas need β2; pass betas=(β1, β2).")
    return hp.beta2


def _one(s: Settings) -> Any:
    return np.ones_like(s.lr)[()]
