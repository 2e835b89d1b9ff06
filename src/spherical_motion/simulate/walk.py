"""An optimizer on random gradients: a slow, obvious reference for the laws of the motion.

The gradient at w has a random part, orthogonal to w like that of a scale-invariant loss, whose norm
is that of a unit gradient divided by |w|. It may have a part κ·w along the weights as well, like
that of a loss that acts on the norm: κ > 0 draws the weights inward.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.simulate.rules import Rule, rule_for
from spherical_motion.vocabulary.gram import PRODUCTS, Gram
from spherical_motion.vocabulary.hyperparameters import HyperParameters

Radial: TypeAlias = float | Callable[[Array], Array]
"""κ of the gradient's part κ·w, or a function of |w|."""


@dataclasses.dataclass(frozen=True, slots=True)
class RandomWalk:
    """The recorded steps of a simulated optimizer, after its burn-in.

    Attributes:
        gram: the products of each step, shape (steps, replicas), wp and ws included for SGD and
            Adam.
        update_products: mean over steps and replicas of <u_t, u_{t-k}>, k = 0 ... lags, where
            u = ((1 - ηλ)w - w_after)/η is the update without the decay of the weights, shape
            (lags + 1,). The equilibrium of decoupled decay depends on its normalised form.
    """

    gram: Gram
    update_products: Array

    @property
    def autocorrelation(self) -> Array:
        """ρ_k of the update, k = 1 ... lags, shape (lags,)."""
        return self.update_products[1:] / self.update_products[0]


@checks.validated
def random_walk(
    hp: HyperParameters,
    *,
    shape: tuple[int, ...] = (100,),
    steps: int,
    norm0: float = 1.0,
    unit_grad_norm: float = 1.0,
    variation: float = 0.0,
    profile: ArrayLike | None = None,
    replicas: int = 1,
    burn_in: int = 0,
    lags: int = 0,
    seed: int = 0,
    radial: Radial = 0.0,
    grad_correlation: float = 0.0,
) -> RandomWalk:
    """Step an optimizer on random gradients, `steps` times after a burn-in.

    Args:
        hp: optimizer and settings: SGD with momentum, Nesterov, dampening, L2 or decoupled decay;
            Adam with L2; AdamW; Lion; Muon with an exact polar factor.
        shape: of the weights of one group; Muon needs (rows, columns).
        steps: number of steps to record.
        norm0: |w| at the start, in a random direction.
        unit_grad_norm: |g̃|, or its mean where it varies.
        variation: coefficient of variation of |g̃|, which is then log-normal; >= 0.
        profile: relative size of the gradient's coordinates, of shape `shape`; None for equal.
        replicas: independent copies, stepped side by side.
        burn_in: number of steps before the first recorded one.
        lags: number of autocorrelations of the update to compute.
        seed: of all random numbers.
        radial: κ of the gradient's part κ·w, or a function of |w|, shape (replicas,), for it.
        grad_correlation: correlation of the random part from one step to the next, in [0, 1).

    Raises:
        NoTheory: the optimizer is not simulated.
        InvalidArgument, OutOfDomain: a value is outside its range.

    >>> from spherical_motion import sphere
    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=0.01)
    >>> walk = random_walk(hp, steps=2000, burn_in=2000)
    >>> round(float(sphere.angle(walk.gram).mean()), 4)             # √(2ηλ) = 0.0447
    0.0447
    """
    _check_counts(hp, shape, steps, replicas, burn_in, lags)
    _check_below_one("grad_correlation", grad_correlation)
    for name, value in {"norm0": norm0, "unit_grad_norm": unit_grad_norm}.items():
        checks.number("random_walk", name, value, above=0.0, error=OutOfDomain)
    checks.number("random_walk", "variation", variation, least=0.0, error=OutOfDomain)
    rng = np.random.default_rng(checks.seed("random_walk", seed))
    full = (replicas, *shape)
    axes = tuple(range(1, len(full)))
    weights = rng.standard_normal(full)
    weights *= norm0 / np.sqrt(_dot(weights, weights, axes))
    scale = _profile(profile, shape)
    rule = rule_for(hp, full)
    grams = np.empty((steps, replicas, len(PRODUCTS)))
    noise = np.zeros(full)
    past = np.zeros((lags + 1, *full))
    products = np.zeros(lags + 1)

    for step in range(-burn_in, steps):
        fresh = scale * rng.standard_normal(full)
        noise = fresh if not grad_correlation else grad_correlation * noise + fresh
        gradient = _tangential(rng, noise, weights, unit_grad_norm, variation, axes)
        gradient = gradient + _radial(radial, weights, axes)
        decay = hp.weight_decay * weights
        if hp.decoupled:
            after = weights - hp.lr * decay - hp.lr * rule(gradient)
        else:
            after = weights - hp.lr * rule(gradient + decay)
        past = np.roll(past, 1, axis=0)
        past[0] = ((1.0 - hp.lr * hp.weight_decay) * weights - after) / hp.lr
        if step >= 0:
            grams[step] = _products(weights, after - weights, gradient, rule, axes)
            products += (past * past[0]).reshape(lags + 1, -1).sum(axis=1)
        weights = after
    return RandomWalk(Gram.from_array(grams), products / (steps * replicas))


def _tangential(
    rng: np.random.Generator,
    noise: Array,
    weights: Array,
    unit_grad_norm: float,
    variation: float,
    axes: tuple[int, ...],
) -> Array:
    """`noise` made orthogonal to `weights`, as a gradient whose unit gradient is log-normal."""
    weights_sq = _dot(weights, weights, axes)
    noise = noise - _dot(noise, weights, axes) / weights_sq * weights
    spread = math.sqrt(math.log1p(variation**2))
    size = unit_grad_norm * np.exp(spread * rng.standard_normal(weights_sq.shape) - spread**2 / 2.0)
    return noise * (size / np.sqrt(_dot(noise, noise, axes) * weights_sq))


def _radial(radial: Radial, weights: Array, axes: tuple[int, ...]) -> Array:
    """The part κ·w of the gradient."""
    if not callable(radial):
        return radial * weights
    norms = np.sqrt(_dot(weights, weights, axes))
    kappa = np.broadcast_to(np.asarray(radial(norms.reshape(-1)), np.float64), len(weights))
    return kappa.reshape(norms.shape) * weights


def _products(
    weights: Array, moved: Array, gradient: Array, rule: Rule, axes: tuple[int, ...]
) -> Array:
    """The products of a Gram in their order, shape (replicas, 8)."""
    pairs = [(weights, weights), (weights, moved), (moved, moved)]
    pairs += [(weights, gradient), (gradient, gradient), (moved, gradient)]
    pairs += [(weights, rule.preconditioned), (weights, rule.changed)]
    return np.stack([_dot(a, b, axes).reshape(len(weights)) for a, b in pairs], axis=-1)


def _dot(a: Array, b: Array | float, axes: tuple[int, ...]) -> Array:
    return np.sum(a * b, axis=axes, keepdims=True)


def _profile(profile: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    if profile is None:
        return np.ones(shape)
    scale = checks.numbers_in("random_walk", "profile", profile, above=0.0)
    if scale.shape != shape:
        raise InvalidArgument(
            f"random_walk(profile=...) must have the weights' shape {shape}, got shape "
            f"{scale.shape}."
        )
    return scale


def _check_below_one(name: str, value: float) -> None:
    checks.number("random_walk", name, value, least=0.0, below=1.0, error=OutOfDomain)


def _check_counts(
    hp: HyperParameters, shape: tuple[int, ...], steps: int, replicas: int, burn_in: int, lags: int
) -> None:
    if not hp.lr > 0 or hp.maximize:
        raise InvalidArgument(f"random_walk: hp must have lr > 0 and not maximize, got {hp}.")
    for size in shape:
        checks.whole("random_walk", "shape", size, least=1)
    if math.prod(shape) < 2:
        raise InvalidArgument(
            f"random_walk(shape=...) needs at least 2 entries to turn in, got {shape}."
        )
    counts = {"steps": steps, "replicas": replicas, "burn_in": burn_in, "lags": lags}
    for name, value in counts.items():
        least = int(name in ("steps", "replicas"))
        checks.count_of_steps("random_walk", name, value, least=least)
    entries = replicas * (len(PRODUCTS) * steps + (lags + 8) * math.prod(shape))
    checks.fits("random_walk", entries, "Lower steps, replicas, lags or shape.")
    if lags > burn_in:
        raise InvalidArgument(
            f"random_walk(lags={lags}) needs as many steps before the first recorded one, got "
            f"burn_in={burn_in}. Pass burn_in={lags} or more."
        )
