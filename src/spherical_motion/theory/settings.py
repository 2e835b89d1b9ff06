"""The settings that the formulas read: of one step, or one value a step."""

from __future__ import annotations

import dataclasses
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array
from spherical_motion.errors import OutOfDomain
from spherical_motion.vocabulary.hyperparameters import HyperParameters

Value = float | Array
"""A number, or one value a step."""

Pair = tuple[Array, Array]

Rate = TypeVar("Rate", bound=ArrayLike)


class Settings(Protocol):
    """What the formulas read: `HyperParameters`, or `Steps`."""

    @property
    def lr(self) -> Value: ...
    @property
    def weight_decay(self) -> Value: ...
    @property
    def momentum(self) -> Value: ...
    @property
    def beta2(self) -> float | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """Settings that change from step to step: arrays that broadcast against each other."""

    lr: Array
    weight_decay: Value
    momentum: Array
    beta2: float | None = None


@checks.validated
def damped_lr(hp: HyperParameters, lr: Rate, momentum: ArrayLike) -> Rate | Array:
    """The rates that act with dampening, step by step; see `without_dampening`."""
    if hp.optimizer != "sgd" or not hp.dampening:
        return lr
    if hp.dampening >= 1.0:
        raise OutOfDomain(
            f"The theory of SGD holds for dampening < 1, got {hp.dampening:g}: the step would "
            "vanish or climb. Use dampening=0."
        )
    return np.where(np.asarray(momentum) > 0, np.multiply(lr, 1.0 - hp.dampening), lr)


def without_dampening(hp: HyperParameters) -> HyperParameters:
    """The undamped heavy ball that takes the same steps: lr × (1 - dampening).

    With dampening τ, `torch.optim.SGD` keeps b ← αb + (1 - τ)(g + λw), which is (1 - τ) times the
    plain buffer, so that only lr × (1 - τ) acts. The one exception is the first step, where the
    buffer starts as the undamped gradient; it is forgotten after about 1/(1 - α) steps.

    Raises OutOfDomain: dampening >= 1 leaves no step, or one up the gradient.
    """
    if hp.optimizer != "sgd" or not (hp.dampening and hp.momentum):
        return hp
    lr = float(damped_lr(hp, hp.lr, hp.momentum))
    return dataclasses.replace(hp, lr=lr, dampening=0.0)


def is_heavy_ball(hp: HyperParameters) -> bool:
    """Whether this is SGD with L2 decay, and momentum if any of the heavy-ball kind."""
    return hp.optimizer == "sgd" and not hp.decoupled and not (hp.nesterov and hp.momentum)
