"""Two problems small enough to see through, stepped as they are.

`toy_classifier`: the last layer of a network under weight decay, normalization, or both (Li &
Arora, 2020, section 3). `narrow_well`: a minimum on the circle, and whether it holds the iterate
(wan2020, corollary 2.2).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherical_motion.errors import InvalidArgument, OutOfDomain

__all__ = ["ToyRun", "WellRun", "narrow_well", "toy_classifier"]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class ToyRun:
    """What the toy classifier did. Arrays have shape (kept, replicas).

    Attributes:
        step: the steps kept, shape (kept,); the last one is after the last step.
        angle: between the weights and the perfect classifier, radians.
        norm_sq: |w|².
        escape: first step at which the angle was beyond `beyond`, shape (replicas,); inf if none.
    """

    step: NDArray[np.int64]
    angle: Array
    norm_sq: Array
    escape: Array

    @property
    def error(self) -> Array:
        """Share of inputs classified wrongly: angle/π (the paper prints the angle itself)."""
        return self.angle / math.pi


def toy_classifier(
    *,
    normalized: bool,
    lr: Any,
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

    With `normalized`, <x, w> is divided by |w|, as batch normalization with global statistics
    does. Decay alone and normalization alone come to the perfect classifier, as lr → 0 and by
    themselves; both together leave it again and again (Li & Arora, 2020, section 3, cases 1-3).

    Args:
        normalized: whether the output is.
        lr: one number, or one a step, shape (steps,).
        weight_decay: λ, L2.
        dimension: m >= 2.
        steps: how many.
        norm0: |w| at the start.
        angle0: angle to the perfect classifier e_1 at the start, in [0, π].
        batch: inputs a step.
        beyond: the angle that counts as an escape.
        every: which steps to keep.
        replicas: independent runs, side by side.
        seed: of the inputs.

    Raises:
        InvalidArgument, OutOfDomain: a value that is not what it must be.

    >>> run = toy_classifier(normalized=True, lr=1.0, weight_decay=0.0, dimension=3, steps=3000)
    >>> float(run.error[0, 0]), bool(run.error[-1, 0] < 0.05)
    (0.5, True)
    """
    where = "toy_classifier"
    for name, value, low in (
        ("dimension", dimension, 2),
        ("steps", steps, 1),
        ("batch", batch, 1),
        ("every", every, 1),
        ("replicas", replicas, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise InvalidArgument(f"{where}({name}=...) must be an int >= {low}, got {value!r}.")
    rates = np.asarray(lr, np.float64)
    if rates.shape not in ((), (steps,)):
        raise InvalidArgument(f"{where}(lr=...) expects a number or shape ({steps},).")
    rates = np.broadcast_to(rates, (steps,))
    _require(where, "lr", bool((np.isfinite(rates) & (rates > 0)).all()), "finite and > 0", lr)
    _require(where, "weight_decay", 0 <= weight_decay < math.inf, "finite and >= 0", weight_decay)
    _require(where, "norm0", 0 < norm0 < math.inf, "finite and > 0", norm0)
    _require(where, "angle0", 0 <= angle0 <= math.pi, "in [0, π]", angle0)

    rng = np.random.default_rng(seed)
    weights = np.zeros((replicas, dimension))
    weights[:, 0], weights[:, 1] = norm0 * math.cos(angle0), norm0 * math.sin(angle0)
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
            inputs *= np.sign(inputs[..., :1])  # x and its label: only y·x matters
            gradient = _logistic_gradient(inputs, weights, normalized)
            weights = weights - rates[step] * (gradient + weight_decay * weights)
    return ToyRun(np.array(kept), np.array(angles), np.array(norms), escape)


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
    """What became of iterates in wells. Arrays have the shape of `diameter`.

    Attributes:
        diameter: of each well, radians.
        escape: step at which the iterate was found outside, inf if it never was.
        widest: largest angle between two neighbouring iterates while inside, radians.
    """

    diameter: Array
    escape: Array
    widest: Array


def narrow_well(
    diameter: Any,
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

    While the well holds the iterate decay shrinks |w|, and with it grows the angle of a step,
    until it is √(2ηλ/(1 + α)) on average. A well narrower than that cannot hold it any longer,
    however sharp (wan2020, corollary 2.2).

    Args:
        diameter: of the wells, radians, any shape.
        lr, weight_decay, momentum: η, λ (L2) and α.
        sharpness: second derivative of the loss along the circle.
        noise: standard deviation of the unit gradient about that of the loss; it makes the
            iterate leave the very bottom.
        norm0: |w| at the start.
        steps: how many.
        seed: of the noise.

    Raises:
        OutOfDomain: a value outside its range: finite and > 0, weight_decay also 0, momentum in
            [0, 1).

    >>> run = narrow_well([0.03, 0.9], lr=0.1, weight_decay=0.01, steps=5000)  # √(2ηλ) = 0.045
    >>> (run.escape < 5000).tolist()
    [True, False]
    """
    where = "narrow_well"
    diameter = np.asarray(diameter, np.float64)
    _require(where, "diameter", bool((diameter > 0).all()), "> 0", diameter)
    positive = {"lr": lr, "sharpness": sharpness, "noise": noise, "norm0": norm0}
    for name, value in positive.items():
        _require(where, name, 0 < value < math.inf, "finite and > 0", value)
    _require(where, "weight_decay", 0 <= weight_decay < math.inf, "finite and >= 0", weight_decay)
    _require(where, "momentum", 0 <= momentum < 1, "in [0, 1)", momentum)
    rng = np.random.default_rng(seed)
    theta = np.zeros(diameter.shape)
    w = np.stack([np.full(diameter.shape, norm0), theta])
    v = np.zeros_like(w)
    escape = np.full(diameter.shape, math.inf)
    widest = np.zeros(diameter.shape)
    for step in range(1, steps + 1):
        norm = np.hypot(w[0], w[1])
        tangent = np.stack([-w[1], w[0]]) / norm
        pull = sharpness * np.where(np.abs(theta) <= diameter / 2.0, theta, 0.0)
        pull = (pull + noise * rng.standard_normal(diameter.shape)) / norm
        v = momentum * v + pull * tangent + weight_decay * w
        w = w - lr * v
        before, theta = theta, np.arctan2(w[1], w[0])
        inside = np.isinf(escape)
        escape = np.where(inside & (np.abs(theta) > diameter / 2.0), step, escape)
        widest = np.where(np.isinf(escape), np.maximum(widest, np.abs(theta - before)), widest)
    return WellRun(diameter, escape, widest)


def _require(where: str, name: str, holds: bool, wanted: str, found: Any) -> None:
    if not holds:
        raise OutOfDomain(f"{where}({name}=...) must be {wanted}, got {found}.")
