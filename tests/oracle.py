"""Optimizers stepped one by one on random gradients: slow, obvious, and without closed forms.

Written out as in `torch.optim` and the papers of Lion and AdamW. `Walk` keeps the six products of
every step; gradients are random, orthogonal to the weights, with a unit gradient of norm 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from spherical_motion.vocabulary import Gram, HyperParameters

Gradient = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass
class Walk:
    """The products (steps, 6) of a run, its updates' overlaps and its last weights."""

    products: np.ndarray
    updates: np.ndarray
    w: np.ndarray

    def gram(self, first: int = 0) -> Gram:
        return Gram.from_array(self.products[first:])


def walk(
    hp: HyperParameters | list[HyperParameters],
    steps: int,
    *,
    norm0: float,
    dimension: int = 400,
    scales: np.ndarray | None = None,
    gradient: Gradient | None = None,
    keep_updates: int = 0,
    seed: int = 0,
) -> Walk:
    """Run an optimizer for some steps.

    `scales` multiplies the entries of the unit gradient; `gradient(step, w, buffer)` replaces the
    random one; the last `keep_updates` updates u are kept.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    state: dict[str, np.ndarray] = {}
    rows, updates = [], []
    for t in range(steps):
        now = hp[t] if isinstance(hp, list) else hp
        if gradient is None:
            g = rng.standard_normal(dimension) * (1.0 if scales is None else scales)
            g -= (g @ w) / (w @ w) * w
            g /= np.linalg.norm(w) * (np.linalg.norm(g) if scales is None else 1.0)
        else:
            g = gradient(t, w, state.get("v", np.zeros(dimension)))
        after = STEPS[now.optimizer](now, w, g, state, t + 1)
        d = after - w
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g])
        if t >= steps - keep_updates:
            updates.append(((1 - now.lr * now.weight_decay) * w - after) / now.lr)
        w = after
    return Walk(np.array(rows), np.array(updates), w)


def _sgd(hp, w, g, state, t):
    pull = g if hp.decoupled else g + hp.weight_decay * w
    if hp.momentum:
        damped = 1.0 - hp.dampening
        state["v"] = hp.momentum * state["v"] + damped * pull if "v" in state else pull
        pull = pull + hp.momentum * state["v"] if hp.nesterov else state["v"]
    kept = 1.0 - hp.lr * hp.weight_decay if hp.decoupled else 1.0
    return kept * w - hp.lr * pull


def _adam(hp, w, g, state, t):
    b1, b2 = hp.momentum, hp.beta2
    pull = g if hp.decoupled else g + hp.weight_decay * w
    state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * pull
    state["s"] = b2 * state.get("s", 0.0) + (1 - b2) * pull * pull
    u = state["m"] / (1 - b1**t) / (np.sqrt(state["s"] / (1 - b2**t)) + 1e-12)
    kept = 1.0 - hp.lr * hp.weight_decay if hp.decoupled else 1.0
    return kept * w - hp.lr * u


def _lion(hp, w, g, state, t):
    m = state.get("m", np.zeros_like(w))
    u = np.sign(hp.momentum * m + (1 - hp.momentum) * g)
    state["m"] = hp.beta2 * m + (1 - hp.beta2) * g
    return (1.0 - hp.lr * hp.weight_decay) * w - hp.lr * u


def _normalized_momentum(hp, w, g, state, t):
    """Like Muon for a vector: the momentum's direction, with Nesterov's look ahead."""
    state["v"] = hp.momentum * state.get("v", 0.0) + g
    look = g + hp.momentum * state["v"]
    return (1.0 - hp.lr * hp.weight_decay) * w - hp.lr * look / np.linalg.norm(look)


STEPS = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adam,
    "lion": _lion,
    "muon": _normalized_momentum,
}


def uncorrelated_gradient(rng: np.random.Generator) -> Gradient:
    """Unit gradients of norm 1, exactly orthogonal to the weights and to the buffer."""

    def draw(t: int, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        g = rng.standard_normal(w.size)
        basis, _ = np.linalg.qr(np.stack([w, v], axis=1)) if v.any() else (w[:, None], None)
        basis = basis / np.linalg.norm(basis, axis=0)
        g -= basis @ (basis.T @ g)
        g -= basis @ (basis.T @ g)
        return g / np.linalg.norm(g) / np.linalg.norm(w)

    return draw
