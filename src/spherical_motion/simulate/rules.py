"""The update rules of the optimizers, written in plain numpy.

A rule keeps its buffers and turns gradients into updates u; the step is w - ηu, or (1 - ηλ)w - ηu
with decoupled weight decay. The conventions are those of `torch.optim`, for Lion those of its
paper (Chen et al., 2023). Arrays have shape (replicas, *shape).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.vocabulary.hyperparameters import HyperParameters

Rule = Callable[[Array], Array]
"""Pull → update u. The pull is the gradient, plus λw unless decay is decoupled."""


def rule_for(hp: HyperParameters, shape: tuple[int, ...]) -> Rule:
    """A fresh rule for weights of this shape, (replicas, *shape).

    Raises:
        NoTheory: an optimizer that is not simulated.
        InvalidArgument: the rule does not allow these settings or this shape.
    """
    rules = {"sgd": _sgd, "adam": _adam, "adamw": _adam, "lion": _lion, "muon": _muon}
    if hp.optimizer not in rules:
        raise NoTheory(
            f"random_walk: {hp.optimizer!r} is not simulated. Known: {', '.join(rules)}."
        )
    if hp.optimizer == "muon" and len(shape) != 3:
        raise InvalidArgument(
            f"random_walk: muon steps matrices; pass shape=(rows, columns), got {shape[1:]}."
        )
    return rules[hp.optimizer](hp)


def _sgd(hp: HyperParameters) -> Rule:
    buffer: Array | None = None

    def update(pull: Array) -> Array:
        nonlocal buffer
        if buffer is None:
            buffer = pull.copy()
        else:
            buffer = hp.momentum * buffer + (1.0 - hp.dampening) * pull
        return pull + hp.momentum * buffer if hp.nesterov else buffer

    return update if hp.momentum else lambda pull: pull


def _adam(hp: HyperParameters) -> Rule:
    beta1, beta2, eps = hp.momentum, _beta2(hp), hp.eps or 0.0
    first: Array | float = 0.0
    second: Array | float = 0.0
    step = 0

    def update(pull: Array) -> Array:
        nonlocal first, second, step
        step += 1
        first = beta1 * first + (1.0 - beta1) * pull
        second = beta2 * second + (1.0 - beta2) * pull * pull
        size = np.sqrt(second / (1.0 - beta2**step)) + eps
        return first / (1.0 - beta1**step) / size

    return update


def _lion(hp: HyperParameters) -> Rule:
    beta1, beta2 = hp.momentum, _beta2(hp)
    buffer: Array | float = 0.0

    def update(pull: Array) -> Array:
        nonlocal buffer
        direction = np.sign(beta1 * buffer + (1.0 - beta1) * pull)
        buffer = beta2 * buffer + (1.0 - beta2) * pull
        return direction

    return update


def _muon(hp: HyperParameters) -> Rule:
    """The polar factor of the momentum, which torch's Newton-Schulz steps approximate."""
    buffer: Array | float = 0.0

    def update(pull: Array) -> Array:
        nonlocal buffer
        buffer = hp.momentum * buffer + (1.0 - hp.momentum) * pull
        ahead = (1.0 - hp.momentum) * pull + hp.momentum * buffer if hp.nesterov else buffer
        left, _, right = np.linalg.svd(ahead, full_matrices=False)
        return left @ right

    return update


def _beta2(hp: HyperParameters) -> float:
    if hp.beta2 is None:
        raise InvalidArgument(f"random_walk: {hp.optimizer} needs beta2; pass betas=(β1, β2).")
    return hp.beta2
