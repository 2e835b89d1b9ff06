"""An optimizer on random gradients: the slow and obvious witness of every law of the motion.

The gradient at w is random in every direction but one: it is orthogonal to w, as that of a
scale-invariant loss, and its size is that of a unit gradient divided by |w|.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.simulate.rules import rule_for
from spherical_motion.vocabulary.gram import Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

__all__ = ["RandomWalk", "random_walk"]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class RandomWalk:
    """What a simulated optimizer did, from the end of its burn-in on.

    Attributes:
        gram: the six products of each step, shape (steps, replicas).
        update_products: mean over steps and replicas of <u_t, u_{t-k}>, k = 0 ... lags, where
            u = ((1 - ηλ)w - w_after)/η is the update without the weights' own share, shape
            (lags + 1,). Its normalised form is what decoupled decay's equilibrium hangs on.
    """

    gram: Gram
    update_products: Array

    @property
    def autocorrelation(self) -> Array:
        """ρ_k of the update, k = 1 ... lags, shape (lags,)."""
        return self.update_products[1:] / self.update_products[0]


def random_walk(
    hp: HyperParameters,
    *,
    shape: tuple[int, ...] = (100,),
    steps: int,
    norm0: float = 1.0,
    unit_grad_norm: float = 1.0,
    variation: float = 0.0,
    profile: Any = None,
    replicas: int = 1,
    burn_in: int = 0,
    lags: int = 0,
    seed: int = 0,
) -> RandomWalk:
    """Step an optimizer on random gradients, `steps` times after a burn-in.

    Args:
        hp: optimizer and settings: SGD with momentum, Nesterov, dampening, L2 or decoupled decay;
            Adam with L2; AdamW; Lion; Muon with an exact polar factor.
        shape: of the weights, one group; Muon needs (rows, columns).
        steps: how many to record.
        norm0: |w| at the start, in a random direction.
        unit_grad_norm: |g̃|, or its mean where it varies.
        variation: coefficient of variation of |g̃|, which is then log-normal; >= 0.
        profile: relative size of the gradient's coordinates, of shape `shape`; None for equal.
        replicas: independent copies, stepped side by side.
        burn_in: steps to leave out first.
        lags: how many autocorrelations of the update to gather.
        seed: of everything random.

    Raises:
        NoTheory: an optimizer that is not simulated.
        InvalidArgument, OutOfDomain: a value that is not what it must be.

    >>> from spherical_motion import sphere
    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=0.01)
    >>> walk = random_walk(hp, steps=2000, burn_in=2000)
    >>> round(float(sphere.angle(walk.gram).mean()), 4)             # √(2ηλ) = 0.0447
    0.0447
    """
    _check(hp, shape, steps, norm0, unit_grad_norm, variation, replicas, burn_in, lags)
    rng = np.random.default_rng(seed)
    full = (replicas, *shape)
    axes = tuple(range(1, len(full)))
    weights = rng.standard_normal(full)
    weights *= norm0 / np.sqrt(_dot(weights, weights, axes))
    scale = _profile(profile, shape)
    spread = math.sqrt(math.log1p(variation**2))
    rule = rule_for(hp, full)
    grams = np.empty((steps, replicas, 6))
    past = np.zeros((lags + 1, *full))
    products = np.zeros(lags + 1)

    for step in range(-burn_in, steps):
        noise = scale * rng.standard_normal(full)
        noise -= _dot(noise, weights, axes) / _dot(weights, weights, axes) * weights
        size = unit_grad_norm * np.exp(
            spread * rng.standard_normal((replicas, *[1] * len(shape))) - spread**2 / 2.0
        )
        length = np.sqrt(_dot(noise, noise, axes) * _dot(weights, weights, axes))
        gradient = noise * (size / length)
        decay = hp.weight_decay * weights
        if hp.decoupled:
            after = weights - hp.lr * decay - hp.lr * rule(gradient)
        else:
            after = weights - hp.lr * rule(gradient + decay)
        past = np.roll(past, 1, axis=0)
        past[0] = ((1.0 - hp.lr * hp.weight_decay) * weights - after) / hp.lr
        if step >= 0:
            moved = after - weights
            pairs = [(weights, weights), (weights, moved), (moved, moved)]
            pairs += [(weights, gradient), (gradient, gradient), (moved, gradient)]
            for field, (a, b) in enumerate(pairs):
                grams[step, :, field] = _dot(a, b, axes).reshape(replicas)
            products += (past * past[0]).reshape(lags + 1, -1).sum(axis=1)
        weights = after
    return RandomWalk(Gram.from_array(grams), products / (steps * replicas))


def _dot(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    return np.sum(a * b, axis=axes, keepdims=True)


def _profile(profile: Any, shape: tuple[int, ...]) -> Array:
    scale = np.ones(shape) if profile is None else np.asarray(profile, np.float64)
    if scale.shape != shape or not (np.isfinite(scale) & (scale > 0)).all():
        raise InvalidArgument(
            f"random_walk(profile=...) expects finite values > 0 of shape {shape}, got "
            f"shape {scale.shape}."
        )
    return scale


def _check(
    hp: HyperParameters,
    shape: tuple[int, ...],
    steps: int,
    norm0: float,
    unit_grad_norm: float,
    variation: float,
    replicas: int,
    burn_in: int,
    lags: int,
) -> None:
    if not hp.lr > 0 or hp.maximize:
        raise InvalidArgument(f"random_walk: hp must have lr > 0 and not maximize, got {hp}.")
    if math.prod(shape) < 2:
        raise InvalidArgument(
            f"random_walk(shape=...) needs at least 2 entries to turn in, got {shape}."
        )
    for name, value, low in (
        ("steps", steps, 1),
        ("replicas", replicas, 1),
        ("burn_in", burn_in, 0),
        ("lags", lags, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise InvalidArgument(
                f"random_walk({name}=...) must be an int >= {low}, got {value!r}."
            )
    if lags > burn_in:
        raise InvalidArgument(
            f"random_walk(lags={lags}) needs as many steps before the first recorded one; pass "
            f"burn_in={lags} or more, got {burn_in}."
        )
    for name, number in (("norm0", norm0), ("unit_grad_norm", unit_grad_norm)):
        if not (math.isfinite(number) and number > 0):
            raise OutOfDomain(f"random_walk({name}=...) must be finite and > 0, got {number}.")
    if not (math.isfinite(variation) and variation >= 0):
        raise OutOfDomain(f"random_walk(variation=...) must be finite and >= 0, got {variation}.")
