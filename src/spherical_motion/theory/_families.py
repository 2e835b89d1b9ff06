"""Which closed forms an optimizer falls under, and the checks all of them share."""

from __future__ import annotations

import enum

from spherical_motion.errors import NoTheory, OutOfDomain
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = ["Family", "family_of", "require_decay"]


class Family(enum.Enum):
    """Optimizers that share one set of formulas."""

    HEAVY_BALL_L2 = "SGD with momentum and L2 weight decay"
    ADAMW = "AdamW"


def family_of(hp: HyperParameters) -> Family:
    """The family whose formulas hold for these settings.

    Raises:
        NoTheory: none do; the message says which setting is the obstacle.

    >>> family_of(HyperParameters("sgd", lr=0.1)).value
    'SGD with momentum and L2 weight decay'
    """
    if hp.optimizer == "sgd":
        if hp.nesterov:
            raise NoTheory(_no("SGD with nesterov=True"))
        if hp.decoupled:
            raise NoTheory(_no("SGD with decoupled weight decay"))
        if hp.dampening and hp.momentum:
            raise NoTheory(_no(f"SGD with dampening={hp.dampening:g}"))
        return Family.HEAVY_BALL_L2
    if hp.optimizer == "adamw":
        if not hp.decoupled:
            raise NoTheory(_no("AdamW with weight decay in the gradient"))
        return Family.ADAMW
    raise NoTheory(_no("an unknown optimizer" if hp.optimizer == "other" else hp.optimizer))


def require_decay(hp: HyperParameters, function: str) -> float:
    """The intrinsic learning rate ηλ, checked to lie where an equilibrium exists.

    Raises:
        OutOfDomain: lr or weight_decay is 0 (nothing to balance), or ηλ >= 2(1 + momentum) for
            SGD, 2 for AdamW (each step overshoots the sphere's centre).
    """
    limit = 2.0 if family_of(hp) is Family.ADAMW else 2.0 * (1.0 + hp.momentum)
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


def _no(what: str) -> str:
    return (
        f"There is no closed form here for {what}. Known: {', '.join(f.value for f in Family)}. "
        "The motion is recorded all the same; only the prediction is missing."
    )
