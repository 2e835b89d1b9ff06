"""Which closed forms an optimizer falls under, and the checks all of them share."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, TypedDict

import numpy as np

from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = [
    "Family",
    "Given",
    "check_names",
    "damped_lr",
    "family_of",
    "positive",
    "require_decay",
    "without_dampening",
]


class Family(enum.Enum):
    """Optimizers that share one set of formulas."""

    HEAVY_BALL_L2 = "SGD with momentum and L2 weight decay"
    NESTEROV_L2 = "SGD with Nesterov momentum and L2 weight decay"
    HEAVY_BALL_DECOUPLED = "SGD with momentum and decoupled weight decay"
    ADAM_L2 = "Adam with L2 weight decay"
    ADAMW = "AdamW"
    LION = "Lion"
    ANY_DECOUPLED = "decoupled weight decay and steps of known correlation"


class Given(TypedDict, total=False):
    """What a formula may have to know of a group beside the settings; keywords everywhere.

    Each family reads the ones it needs and ignores the others, so that one description of a
    group serves every optimizer:

    ===============  ======================================  =================================
    keyword          meaning                                 needed by
    ===============  ======================================  =================================
    unit_grad_sq     L, mean of h̃ (`sphere`'s drive); for    the norm of the SGD families
                     Nesterov of |g̃|²
    overlap          <v_{t-1}, g>/|g|², ratio of means;      nobody; where it is not 0, Nesterov's
                     0 if left out                           angle and norm depend on it
    numel            number of entries                       AdamW, Lion (norm), Adam with L2
    unit_grad_rms    σ, mean over entries of the RMS of g̃    Adam with L2
    correlation      c = 1 + 2Σρ_k (`correlation_sum`)       any decoupled: Muon, ...
    update_sq        mean |u|² of the update u               the norm of any decoupled
    ===============  ======================================  =================================
    """

    unit_grad_sq: float | None
    overlap: float | None
    numel: float | None
    unit_grad_rms: float | None
    correlation: float | None
    update_sq: float | None


def family_of(hp: HyperParameters) -> Family:
    """The family whose formulas hold for these settings.

    Raises:
        NoTheory: none do; the message says which setting is the obstacle.

    >>> family_of(HyperParameters("sgd", lr=0.1)).value
    'SGD with momentum and L2 weight decay'
    """
    if hp.optimizer == "sgd":
        if not hp.nesterov or not hp.momentum:
            return Family.HEAVY_BALL_DECOUPLED if hp.decoupled else Family.HEAVY_BALL_L2
        if hp.decoupled or hp.dampening:
            other = "decoupled weight decay" if hp.decoupled else f"dampening={hp.dampening:g}"
            raise NoTheory(_no(f"SGD with nesterov=True and {other}"))
        return Family.NESTEROV_L2
    if hp.optimizer in ("adam", "adamw"):
        return Family.ADAMW if hp.decoupled else Family.ADAM_L2
    if hp.optimizer == "lion" and hp.decoupled:
        return Family.LION
    if hp.optimizer in ("muon", "other") and hp.decoupled:
        return Family.ANY_DECOUPLED
    if hp.optimizer == "other":
        raise NoTheory(_no("an unknown optimizer"))
    raise NoTheory(_no(f"{hp.optimizer} with L2 weight decay"))


def without_dampening(hp: HyperParameters) -> HyperParameters:
    """The undamped heavy ball that takes the same steps: lr × (1 - dampening).

    With dampening τ, `torch.optim.SGD` keeps b ← αb + (1 - τ)(g + λw), which is (1 - τ) times the
    plain buffer, so that only lr × (1 - τ) is felt. The one exception is the first step, where
    the buffer starts as the undamped gradient; it is forgotten after about 1/(1 - α) steps.

    Raises:
        OutOfDomain: dampening >= 1 leaves no step, or one up the gradient.
    """
    if hp.optimizer != "sgd" or not (hp.dampening and hp.momentum):
        return hp
    lr = float(damped_lr(hp, hp.lr, hp.momentum))
    return dataclasses.replace(hp, lr=lr, dampening=0.0)


def damped_lr(hp: HyperParameters, lr: Any, momentum: Any) -> Any:
    """The rates felt with dampening, step by step; see `without_dampening`."""
    if hp.optimizer != "sgd" or not hp.dampening:
        return lr
    if hp.dampening >= 1.0:
        raise OutOfDomain(
            f"The theory of SGD holds for dampening < 1, got {hp.dampening:g}: the step would "
            "vanish or climb. Use dampening=0."
        )
    return np.where(np.asarray(momentum) > 0, np.multiply(lr, 1.0 - hp.dampening), lr)


def largest_intrinsic_lr(hp: HyperParameters) -> float:
    """The ηλ below which an equilibrium exists: there each step just reverses the weights."""
    a = hp.momentum
    family = family_of(hp)
    if family is Family.HEAVY_BALL_L2:
        return 2.0 * (1.0 + a)
    if family is Family.NESTEROV_L2:
        return 2.0 * (1.0 + a) / (1.0 + 2.0 * a)
    # Adam divides the decay by the gradient's size, so that ηλ alone sets no limit.
    return math.inf if family is Family.ADAM_L2 else 2.0


def check_names(given: Given, function: str) -> None:
    """Refuse a keyword that no formula knows: misspelt, it would be ignored in silence."""
    unknown = sorted(set(given) - set(Given.__annotations__))
    if unknown:
        raise InvalidArgument(
            f"{function} got an unexpected keyword {unknown[0]!r}; of a group it takes "
            f"{', '.join(Given.__annotations__)}."
        )


def require_decay(hp: HyperParameters, function: str, given: Given | None = None) -> float:
    """The intrinsic learning rate ηλ, checked to lie where an equilibrium exists.

    Raises:
        InvalidArgument: `given` holds an unknown keyword.
        OutOfDomain: lr or weight_decay is 0 (nothing to balance), or ηλ is at least 2(1 + α) for
            SGD with L2, 2(1 + α)/(1 + 2α) for Nesterov, 2 for decoupled decay (each step
            overshoots the sphere's centre).
    """
    check_names(given or {}, function)
    hp = without_dampening(hp)
    limit = largest_intrinsic_lr(hp)
    if not 0.0 < hp.intrinsic_lr < limit:
        raise OutOfDomain(
            f"{function}: an equilibrium exists for 0 < lr × weight_decay < {limit:g}, got "
            f"lr={hp.lr:g} × weight_decay={hp.weight_decay:g} = {hp.intrinsic_lr:g}. "
            + (
                "Without weight decay the norm only grows; compare the angle with η|g̃|/|w|²."
                if hp.weight_decay == 0
                else "Lower the learning rate or the weight decay."
                if hp.intrinsic_lr > 0
                else "A learning rate of 0 moves nothing."
            )
        )
    return hp.intrinsic_lr


def positive(given: Given, name: str, hp: HyperParameters, function: str) -> float:
    """The keyword `name` of `given`, checked to be there, finite and > 0.

    Raises:
        InvalidArgument: it is missing or not positive.
        NoTheory: the steps' correlation is missing; no setting or recorded product replaces it.
    """
    value = given.get(name)
    if value is None and name == "correlation":
        raise NoTheory(
            f"{function}: no prediction for {hp.optimizer} from the settings or the six recorded "
            "products alone: it takes the autocorrelation of the steps. Measure it from a series "
            "of updates (theory.correlation_sum) and pass correlation=..."
        )
    if not (isinstance(value, (int, float, np.number)) and math.isfinite(value) and value > 0):
        raise InvalidArgument(
            f"{function}({name}=...) must be finite and > 0 for {hp.optimizer}, got {value}."
        )
    return float(value)


def _no(what: str) -> str:
    return (
        f"There is no closed form here for {what}. Known: {', '.join(f.value for f in Family)}. "
        "The motion is recorded all the same; only the prediction is missing."
    )
