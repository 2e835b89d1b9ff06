"""The update rules of the optimizers, written in plain numpy.

A rule keeps its buffers and turns gradients into updates u; the step is w - ηu, or (1 - ηλ)w - ηu
with decoupled weight decay. The conventions are those of `torch.optim`, for Lion those of its
paper (Chen et al., 2023). Arrays have shape (replicas, *shape).
"""

from __future__ import annotations

import abc

import numpy as np

from spherical_motion.checks import Array
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.vocabulary.hyperparameters import HyperParameters


class Rule(abc.ABC):
    """Pull → update u. The pull is the gradient, plus λw unless decay is decoupled.

    Attributes:
        preconditioned: P·pull of the last call, where P multiplies the running average; NaN where
            the rule has no such form.
        changed: (P - P_before)·(average before the last call); NaN alike.
    """

    preconditioned: Array | float = float("nan")
    changed: Array | float = float("nan")

    def __init__(self, hp: HyperParameters) -> None:
        self.hp = hp
        self.buffer: Array | float = 0.0

    @abc.abstractmethod
    def __call__(self, pull: Array) -> Array:
        """The update for this pull; the buffers move on."""


def rule_for(hp: HyperParameters, shape: tuple[int, ...]) -> Rule:
    """A fresh rule for weights of this shape, (replicas, *shape).

    Raises:
        NoTheory: an optimizer that is not simulated.
        InvalidArgument: the rule does not allow these settings or this shape.
    """
    rules = {"sgd": _Sgd, "adam": _Adam, "adamw": _Adam, "lion": _Lion, "muon": _Muon}
    if hp.optimizer not in rules:
        raise NoTheory(
            f"random_walk: {hp.optimizer!r} is not simulated. Known: {', '.join(rules)}."
        )
    if hp.optimizer == "muon" and len(shape) != 3:
        raise InvalidArgument(
            f"random_walk: muon steps matrices; pass shape=(rows, columns), got {shape[1:]}."
        )
    return rules[hp.optimizer](hp)


class _Sgd(Rule):
    empty = True

    def __call__(self, pull: Array) -> Array:
        hp = self.hp
        self.preconditioned, self.changed = pull, np.zeros_like(pull)
        if not hp.momentum:
            return pull
        if self.empty:
            self.buffer, self.empty = pull.copy(), False
        else:
            self.buffer = hp.momentum * self.buffer + (1.0 - hp.dampening) * pull
        return pull + hp.momentum * self.buffer if hp.nesterov else np.asarray(self.buffer)


class _Adam(Rule):
    def __init__(self, hp: HyperParameters) -> None:
        super().__init__(hp)
        self.beta2 = _beta2(hp)
        self.second: Array | float = 0.0
        self.metric: Array | float = 0.0
        self.step = 0

    def __call__(self, pull: Array) -> Array:
        beta1, beta2 = self.hp.momentum, self.beta2
        self.step += 1
        before, average = self.metric, self.buffer
        self.buffer = beta1 * average + (1.0 - beta1) * pull
        self.second = beta2 * self.second + (1.0 - beta2) * pull * pull
        size = np.sqrt(self.second / (1.0 - beta2**self.step)) + (self.hp.eps or 0.0)
        self.metric = 1.0 / (1.0 - beta1**self.step) / size
        self.preconditioned = self.metric * pull
        self.changed = (self.metric - before) * average
        return self.buffer / (1.0 - beta1**self.step) / size


class _Lion(Rule):
    def __init__(self, hp: HyperParameters) -> None:
        super().__init__(hp)
        self.beta2 = _beta2(hp)

    def __call__(self, pull: Array) -> Array:
        beta1 = self.hp.momentum
        direction = np.sign(beta1 * self.buffer + (1.0 - beta1) * pull)
        self.buffer = self.beta2 * self.buffer + (1.0 - self.beta2) * pull
        return direction


class _Muon(Rule):
    """The polar factor of the momentum, which torch's Newton-Schulz steps approximate."""

    def __call__(self, pull: Array) -> Array:
        hp = self.hp
        self.buffer = hp.momentum * self.buffer + (1.0 - hp.momentum) * pull
        ahead = self.buffer
        if hp.nesterov:
            ahead = (1.0 - hp.momentum) * pull + hp.momentum * self.buffer
        left, _, right = np.linalg.svd(ahead, full_matrices=False)
        return left @ right


def _beta2(hp: HyperParameters) -> float:
    if hp.beta2 is None:
        raise InvalidArgument(f"random_walk: {hp.optimizer} needs beta2; pass betas=(β1, β2).")
    return hp.beta2
