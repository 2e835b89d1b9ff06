"""A plain vector stepped by an optimizer under any gradient, with the eight products of each step.

Written out from `torch.optim`, one vector, float64; it knows no law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from spherical_motion.vocabulary import Gram, HyperParameters

Gradient = Callable[[int, np.ndarray], np.ndarray | None]
Settings = Sequence[tuple[float, float, float]]


def leaning(seed: int = 0, radial: float = 0.0, correlated: float = 0.5) -> Gradient:
    """Random gradients, correlated in time, entries of many sizes, with a part along w."""
    rng = np.random.default_rng(seed)
    last = 0.0

    def gradient(step: int, w: np.ndarray) -> np.ndarray:
        nonlocal last
        scale = np.linspace(0.2, 2.0, w.size)
        last = correlated * last + rng.standard_normal(w.size) * scale
        return last / w.size**0.5 + radial * w

    return gradient


def products(
    hp: HyperParameters,
    settings: Settings,
    gradient: Gradient,
    *,
    dimension: int = 30,
    norm0: float = 3.0,
    seed: int = 1,
) -> Gram:
    """Step through `settings` (lr, weight_decay, momentum) and record the products (steps, 8).

    Where the gradient is None, the optimizer passes the weights by, as those of torch do.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    state: dict[str, np.ndarray] = {}
    rows = []
    count = 0
    for t, (lr, weight_decay, momentum) in enumerate(settings):
        g = gradient(t, w)
        if g is None:
            rows.append([w @ w, 0.0, 0.0, *[np.nan] * 5])
            continue
        count += 1
        x = g if hp.decoupled else g + weight_decay * w
        update, metric, ws = UPDATES.get(hp.optimizer, _adam)(hp, state, x, count, momentum, w)
        after = w - lr * update - (lr * weight_decay * w if hp.decoupled else 0.0)
        d = after - w
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g, w @ (metric * x), ws])
        w = after
    return Gram.from_array(np.array(rows))


def _sgd(hp, state, x, t, momentum, w):
    if not momentum:
        return x, 1.0, 0.0
    before = state.get("b")
    b = x if before is None else momentum * before + (1.0 - hp.dampening) * x
    state["b"] = b
    return (x + momentum * b if hp.nesterov else b), 1.0, 0.0


def _rmsprop(hp, state, x, t, momentum, w):
    state["v"] = hp.beta2 * state.get("v", 0.0) + (1 - hp.beta2) * x * x
    metric = 1.0 / (np.sqrt(state["v"]) + 1e-8)
    if not momentum:
        return metric * x, metric, 0.0
    state["b"] = momentum * state.get("b", 0.0) + metric * x
    return state["b"], metric, 0.0


def _adagrad(hp, state, x, t, momentum, w):
    state["v"] = state.get("v", 0.0) + x * x
    metric = 1.0 / (np.sqrt(state["v"]) + 1e-10)
    return metric * x, metric, 0.0


def _adam(hp, state, x, t, momentum, w):
    """Adam and its relatives: P(t) times a running average."""
    b1, b2 = momentum, hp.beta2
    before, earlier = state.get("b", np.zeros_like(x)), state.get("P", np.zeros_like(x))
    state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * x * x
    v = state["v"]
    if hp.optimizer == "amsgrad":
        v = state["top"] = np.maximum(state.get("top", 0.0), v)
    size = np.sqrt(v / (1 - b2**t)) + 1e-8
    if hp.optimizer == "adamax":
        size = state["u"] = np.maximum(b2 * state.get("u", 0.0), np.abs(x) + 1e-8)
    metric = 1.0 / size
    if hp.optimizer == "radam":
        longest = 2 / (1 - b2) - 1
        length = longest - 2 * t * b2**t / (1 - b2**t)
        metric = np.ones_like(x)
        if length > 5:
            top, bottom = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2)
            metric = np.sqrt(top / bottom / length) / size
    if hp.optimizer == "nadam":
        state["b"] = b1 * before + (1 - b1) * x
        mu, ahead = (b1 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
        state["mu"] = state.get("mu", np.float64(1.0)) * mu
        now, then = 1 - state["mu"], 1 - state["mu"] * ahead
        return metric * ((1 - mu) / now * x + ahead / then * state["b"]), metric, np.nan
    metric = metric / (1 - b1**t)
    state["b"], state["P"] = b1 * before + (1 - b1) * x, metric
    return metric * state["b"], metric, float(w @ ((metric - earlier) * before))


UPDATES = {"sgd": _sgd, "rmsprop": _rmsprop, "adagrad": _adagrad}
