"""Two small problems from the papers, stepped exactly: a small classifier and a narrow well."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion import checks
from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument, OutOfDomain


@dataclasses.dataclass(frozen=True, slots=True)
class ToyRun:
    """A run of the toy classifier. Arrays have shape (kept, replicas).

    Attributes:
        step: the steps kept, shape (kept,); the last one is after the last step.
        angle: between the weights and the perfect classifier, radians.
        norm_sq: |w|².
        escape: first step with an angle above `beyond`, shape (replicas,); inf if none.
    """

    step: NDArray[np.int64]
    angle: Array
    norm_sq: Array
    escape: Array

    @property
    def error(self) -> Array:
        """Fraction of inputs classified wrongly: angle/π (the paper prints the angle itself)."""
        return self.angle / math.pi


@checks.validated
def toy_classifier(
    *,
    normalized: bool,
    lr: ArrayLike,
    weight_decay: float,
    dimension: int,
    steps: int,
    norm0: float = 1.0,
    angle0: float = math.pi / 2,
    batch: int = 1,
    beyond: float = math.inf,
    every: int = 1,
    replicas: int = 1,
    seed: int = 0,
) -> ToyRun:
    """SGD on the logistic loss ln(1 + e^{-y<x, w>}), x standard normal, y the sign of x_1.

    With `normalized`, <x, w> is divided by |w|, as by batch normalization with global statistics.
    With decay alone the weights reach the perfect classifier as lr → 0, with normalization alone
    at any lr; with both they leave it repeatedly (Li & Arora, 2020, section 3, cases 1-3).

    Args:
        normalized: whether to divide the output by |w|.
        lr: one number, or one for each step, shape (steps,).
        weight_decay: λ, L2.
        dimension: m >= 2.
        steps: number of steps.
        norm0: |w| at the start.
        angle0: angle to the perfect classifier e_1 at the start, in [0, π].
        batch: number of inputs in each step.
        beyond: an angle above this is an escape.
        every: keep every `every`-th step.
        replicas: number of independent runs.
        seed: of the inputs.

    Raises:
        InvalidArgument, OutOfDomain: a value is outside its range.

    >>> run = toy_classifier(normalized=True, lr=1.0, weight_decay=0.0, dimension=3, steps=3000)
    >>> float(run.error[0, 0]), bool(run.error[-1, 0] < 0.05)
    (0.5, True)
    """
    where = "toy_classifier"
    checks.whole(where, "dimension", dimension, least=2)
    counts = {"batch": batch, "every": every, "replicas": replicas}
    for name, value in counts.items():
        checks.whole(where, name, value, least=1)
    checks.count_of_steps(where, "steps", steps)
    entries = batch * replicas * dimension + 2 * (steps // every + 2) * replicas
    checks.fits(where, 3 * entries, "Lower batch, replicas, dimension or steps, or raise every.")
    rates = _rates(lr, steps)
    checks.number(where, "weight_decay", weight_decay, least=0.0, error=OutOfDomain)
    checks.number(where, "norm0", norm0, above=0.0, error=OutOfDomain)
    checks.number(where, "angle0", angle0, least=0.0, most=math.pi, error=OutOfDomain)
    rng = np.random.default_rng(checks.seed(where, seed))
    weights = np.zeros((replicas, dimension))
    weights[:, :2] = norm0 * math.cos(angle0), norm0 * math.sin(angle0)
    escape = np.full(replicas, math.inf)
    angles, norms, kept = [], [], []
    for step in range(steps + 1):
        angle = np.arctan2(np.linalg.norm(weights[:, 1:], axis=1), weights[:, 0])
        escape = np.where(np.isinf(escape) & (angle > beyond), step, escape)
        if step % every == 0 or step == steps:
            kept.append(step)
            angles.append(angle)
            norms.append(np.sum(weights * weights, axis=1))
        if step < steps:
            inputs = rng.standard_normal((batch, replicas, dimension))
            inputs *= np.sign(inputs[..., :1])  # x times its label: only y·x enters the gradient
            gradient = _logistic_gradient(inputs, weights, normalized)
            weights = weights - rates[step] * (gradient + weight_decay * weights)
    return ToyRun(np.array(kept), np.array(angles), np.array(norms), escape)


def _rates(lr: ArrayLike, steps: int) -> Array:
    """The learning rate of each step, shape (steps,)."""
    rates = checks.above_zero("toy_classifier", "lr", lr)
    if rates.shape not in ((), (steps,)):
        raise InvalidArgument(
            f"toy_classifier(lr=...) must be a number or have shape ({steps},), got shape "
            f"{rates.shape}."
        )
    return np.broadcast_to(rates, (steps,))


def _logistic_gradient(inputs: Array, weights: Array, normalized: bool) -> Array:
    """Mean gradient over the batch; `inputs` is y·x, (batch, replicas, dimension)."""
    norm = np.linalg.norm(weights, axis=1, keepdims=True) if normalized else 1.0
    heading = weights / norm
    margin = np.sum(inputs * heading, axis=-1, keepdims=True)
    push = -inputs / (1.0 + np.exp(margin))
    if normalized:
        push = push - np.sum(push * heading, axis=-1, keepdims=True) * heading
    return push.mean(axis=0) / norm


@dataclasses.dataclass(frozen=True, slots=True)
class WellRun:
    """A run of iterates in wells. Arrays have the shape of `diameter`.

    Attributes:
        diameter: of each well, radians.
        escape: first step after which the iterate is outside the well, inf if there is none.
        widest: largest angle between two neighbouring iterates while inside, radians.
    """

    diameter: Array
    escape: Array
    widest: Array


@checks.validated
def narrow_well(
    diameter: ArrayLike,
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.0,
    sharpness: float = 1.0,
    noise: float = 0.1,
    norm0: float = 1.0,
    steps: int,
    seed: int = 0,
) -> WellRun:
    """SGD from the bottom of a well on the circle: ½·sharpness·θ² up to diameter/2, flat outside.

    While the iterate is in the well, decay shrinks |w| and the angle of a step grows until it is
    √(2ηλ/(1 + α)) on average. A narrower well loses the iterate, however sharp it is (wan2020,
    corollary 2.2).

    Args:
        diameter: of the wells, radians, any shape.
        lr, weight_decay, momentum: η, λ (L2) and α.
        sharpness: second derivative of the loss along the circle.
        noise: standard deviation of the noise on the unit gradient; without it the iterate
            would stay at the bottom.
        norm0: |w| at the start.
        steps: number of steps.
        seed: of the noise.

    Raises:
        OutOfDomain: a value is not finite and > 0 (weight_decay may be 0), or momentum is not in
            [0, 1).

    >>> run = narrow_well([0.03, 0.9], lr=0.1, weight_decay=0.01, steps=5000)  # √(2ηλ) = 0.045
    >>> (run.escape < 5000).tolist()
    [True, False]
    """
    where = "narrow_well"
    wells = checks.above_zero(where, "diameter", diameter)
    for name, value in {"lr": lr, "sharpness": sharpness, "noise": noise, "norm0": norm0}.items():
        checks.number(where, name, value, above=0.0, error=OutOfDomain)
    checks.number(where, "weight_decay", weight_decay, least=0.0, error=OutOfDomain)
    checks.number(where, "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    checks.count_of_steps(where, "steps", steps, least=0)
    rng = np.random.default_rng(checks.seed(where, seed))
    theta = np.zeros(wells.shape)
    w = np.stack([np.full(wells.shape, norm0), theta])
    v = np.zeros_like(w)
    escape = np.full(wells.shape, math.inf)
    widest = np.zeros(wells.shape)
    for step in range(1, steps + 1):
        norm = np.hypot(w[0], w[1])
        tangent = np.stack([-w[1], w[0]]) / norm
        pull = sharpness * np.where(np.abs(theta) <= wells / 2.0, theta, 0.0)
        pull = (pull + noise * rng.standard_normal(wells.shape)) / norm
        v = momentum * v + pull * tangent + weight_decay * w
        w = w - lr * v
        before, theta = theta, np.arctan2(w[1], w[0])
        inside = np.isinf(escape)
        escape = np.where(inside & (np.abs(theta) > wells / 2.0), step, escape)
        widest = np.where(np.isinf(escape), np.maximum(widest, np.abs(theta - before)), widest)
    return WellRun(wells, escape, widest)
