"""Steps of known size: how their correlation sets the balance of decoupled weight decay.

With w_{t+1} = (1 - ηλ)w_t - ηu_t the weights are a sum of past updates that fades over 1/(ηλ)
steps. If the updates forget each other much sooner, |w|² = η·mean |u|²·c/(2λ) and Δ*² = 2ηλ/c with

    c = 1 + 2·Σ_{k≥1} ρ_k,    ρ_k = mean <u_t, u_{t+k}> / mean |u|².

AdamW has c = (1 + β1)/(1 - β1). Where no formula is known (Muon, ...), measure c from updates.

Lion's update is the sign of x_t = h_0g_t + h_1g_{t-1} + ..., with h_0 = 1 - β1 and h_j =
β1(1 - β2)β2^{j-1}. Independent gradients make x a Gaussian process with autocorrelation r_k =
r_1β2^{k-1}, and two signs agree as (2/π)·asin r_k, the arcsine law. Hence c = 1 + (4/π)Σ asin r_k,
or 2/(πK) with r_k for asin r_k and without 1 - 2/π.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array, Number, above_zero, plain
from spherical_motion.errors import InvalidArgument, OutOfDomain


@checks.validated
def updates_between(
    before: ArrayLike, after: ArrayLike, lr: ArrayLike, weight_decay: ArrayLike
) -> Array:
    """The updates u = ((1 - ηλ)w - w_after)/η of an optimizer with decoupled weight decay.

    Not the steps d: with the decay in it a step is anticorrelated with all others, and its
    correlation sum tends to 0.

    Args:
        before, after: weights before and after each step, shape (steps, numel).
        lr, weight_decay: η > 0 and λ, scalars or shape (steps,).

    >>> updates_between([[1.0, 0.0]], [[0.9, -0.1]], lr=0.1, weight_decay=0.5)
    array([[0.5, 1. ]])
    """
    w, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    lr, weight_decay = np.asarray(lr, np.float64), np.asarray(weight_decay, np.float64)
    if w.shape != after.shape or w.ndim != 2:
        raise InvalidArgument(
            "updates_between expects weights of one shape (steps, numel), got "
            f"{w.shape} and {after.shape}."
        )
    above_zero("updates_between", "lr", lr)
    lr = checks.fitted("updates_between", "lr", lr, w.shape[:1])[:, None]
    decay = (
        lr * checks.fitted("updates_between", "weight_decay", weight_decay, w.shape[:1])[:, None]
    )
    return ((w - after) - decay * w) / lr


@checks.validated
def autocorrelation(updates: ArrayLike, lags: int) -> Array:
    """ρ_1 ... ρ_lags of a series of update vectors, not centred; shape (lags,).

    Each ρ_k averages over the len(updates) - k pairs there are. Independent updates leave noise of
    about 1/√(steps × entries) in each.

    Args:
        updates: shape (steps, numel), consecutive steps.
        lags: how many, fewer than there are steps. Take enough for the optimizer to forget, and
            far fewer than 1/(ηλ).

    Raises InvalidArgument: wrong shape, non-finite entries, or not 1 <= lags < steps.

    >>> rng = np.random.default_rng(0)
    >>> noise = rng.standard_normal((2001, 50))
    >>> np.round(autocorrelation(noise[1:] + noise[:-1], lags=2), 1)
    array([0.5, 0. ])
    """
    u = np.asarray(updates, dtype=np.float64)
    if u.ndim != 2 or not np.isfinite(u).all() or not u.any():
        raise InvalidArgument(
            "autocorrelation(updates=...) expects finite updates, not all zero, of shape "
            f"(steps, numel), got shape {u.shape}."
        )
    if not 1 <= lags < len(u):
        raise InvalidArgument(
            f"autocorrelation(lags=...) must be >= 1 and < {len(u)} steps, got {lags}."
        )
    size = np.vdot(u, u) / len(u)
    return np.array([np.vdot(u[k:], u[:-k]) / (len(u) - k) for k in range(1, lags + 1)]) / size


@checks.validated
def correlation_sum(autocorrelations: ArrayLike) -> float:
    """c = 1 + 2·Σρ_k, the `correlation` that `equilibrium_angle` and the others take.

    Raises OutOfDomain: c <= 0: the updates undo each other, or ρ_k is that of the steps d.

    >>> correlation_sum([0.5, 0.25])
    2.5
    """
    total = 1.0 + 2.0 * float(np.sum(np.asarray(autocorrelations, np.float64)))
    if not total > 0:
        raise OutOfDomain(
            f"correlation_sum: 1 + 2·Σρ_k must be > 0, got {total:g}. Pass the autocorrelation of "
            "the updates u (theory.updates_between), over lags well below 1/(lr × weight_decay)."
        )
    return total


@checks.validated
def largest_correlation_sum(autocorrelations: ArrayLike, momentum: float | None = None) -> float:
    """c = 1 + 2·Σρ_k, the sum taken as far as it is largest, over lags k ≤ 3/(1 - β).

    Momentum makes ρ_k fall from 1 within a few times 1/(1 - β) steps. What follows has another
    cause: the loss answers to the weights that the updates have moved, most often against them, so
    that a longer sum falls again. The largest partial sum leaves this out; it is at least 1, with
    no lag at all. An exponential memory is underrated by a share e^-3 of the sum. Derived here.

    Args:
        autocorrelations: ρ_1, ρ_2, ..., as `autocorrelation` returns them.
        momentum: β; left out, all of `autocorrelations` are used.

    Raises:
        OutOfDomain: momentum outside [0, 1).
        InvalidArgument: something that is not finite.

    >>> largest_correlation_sum([0.5, 0.25, -0.5])
    2.5
    """
    rho = np.asarray(autocorrelations, np.float64)
    if momentum is not None:
        if not 0.0 <= momentum < 1.0:
            raise OutOfDomain(
                f"largest_correlation_sum(momentum=...) must lie in [0, 1), got {momentum}."
            )
        rho = rho[: math.ceil(3.0 / (1.0 - momentum) - 1e-9)]
    if not np.isfinite(rho).all():
        raise InvalidArgument(
            "largest_correlation_sum(autocorrelations=...) must be finite, got "
            f"{int((~np.isfinite(rho)).sum())} of {rho.size} that are not."
        )
    return 1.0 + 2.0 * float(np.max(np.cumsum(rho), initial=0.0))


@checks.validated
def lion_factor(momentum: Number | float, beta2: Number | float) -> Number:
    """K = Σh_j² = (1 - β1)² + β1²(1 - β2)/(1 + β2), the variance of x over that of a gradient.

    Raises OutOfDomain: momentum or beta2 outside [0, 1].

    >>> round(lion_factor(0.9, 0.99), 6)
    0.01407
    """
    first, second = (
        checks.numbers_in("lion_factor", name, value, least=0.0, most=1.0, error=OutOfDomain)
        for name, value in (("momentum", momentum), ("beta2", beta2))
    )
    return plain((1.0 - first) ** 2 + first**2 * (1.0 - second) / (1.0 + second))


@checks.validated
def lion_correlation(momentum: Number, beta2: float, intrinsic_lr: float = 0.0) -> Number:
    """c = 1 + (4/π)·Σ_{k≥1} asin r_k·(1 - ηλ)^k of Lion's sign updates; `momentum` may be an array.

    For gradients that are independent from step to step, whatever the entries' scales. At β = (0.9,
    0.99) it is 1.5% above 2/(πK), at (0.95, 0.98) 6%, at (0.5, 0.9) 15%. With
    `intrinsic_lr` = ηλ the decay between two updates is counted too.

    Raises OutOfDomain: momentum or beta2 outside [0, 1), or intrinsic_lr outside [0, 2).

    >>> round(lion_correlation(0.9, 0.99), 2), round(2 / (math.pi * lion_factor(0.9, 0.99)), 2)
    (45.93, 45.25)
    """
    betas = np.asarray(momentum, np.float64)
    inside = 0.0 <= beta2 < 1.0 and ((betas >= 0.0) & (betas < 1.0)).all()
    if not (inside and 0.0 <= intrinsic_lr < 2.0):
        raise OutOfDomain(
            "lion_correlation: β1 and β2 must lie in [0, 1) and intrinsic_lr in [0, 2), got "
            f"{momentum}, {beta2} and {intrinsic_lr}."
        )
    kept = 1.0 - intrinsic_lr
    values, where = np.unique(betas, return_inverse=True)
    sums = np.array([lion_memory(float(b), beta2, kept) for b in values])
    return plain(1.0 + 2.0 * kept * sums[where].reshape(betas.shape))


def lion_autocorrelation(beta1: float, beta2: float, lags: int) -> Array:
    """ρ_1 ... ρ_lags of Lion's sign updates for independent gradients: (2/π)·asin(r_1β2^{k-1}).

    >>> rho = lion_autocorrelation(0.9, 0.99, lags=5_000)
    >>> bool(abs(correlation_sum(rho) - lion_correlation(0.9, 0.99)) < 1e-9)
    True
    """
    r = _neighbours_agree(beta1, beta2)
    return 2.0 / math.pi * np.arcsin(r * beta2 ** np.arange(lags, dtype=np.float64))


LINEAR = 1e-5
"""Below this asin r is r, to ten digits more than anything here needs."""


MOST_LAGS = 100_000
"""Lags that are summed one by one."""

NODES = 128
"""Of the integral over more lags than that."""


def _neighbours_agree(beta1: float, beta2: float) -> float:
    """r_1, the autocorrelation of x at neighbouring steps."""
    first = beta1 * (1.0 - beta2)
    return first * (1.0 - beta1 + first * beta2 / (1.0 - beta2**2)) / lion_factor(beta1, beta2)


def lion_memory(beta1: float, beta2: float, kept: float) -> float:
    """(2/π)Σ_{k≥1} asin(r_k)·kept^{k-1} = -<w, u>/(η·mean |u|²), with kept = 1 - ηλ.

    Term by term while asin is curved, the rest as a geometric series.
    """
    r = _neighbours_agree(beta1, beta2)
    count = 1 if r <= LINEAR or beta2 == 0.0 else math.ceil(math.log(LINEAR / r) / math.log(beta2))
    if count > MOST_LAGS:
        return _slow_lion_memory(r, beta2, kept, count)
    k = np.arange(max(count, 1))
    curved = float((np.arcsin(r * beta2**k) * kept**k).sum())
    tail = r * (beta2 * kept) ** len(k) / (1.0 - beta2 * kept)
    return 2.0 / math.pi * (curved + tail)


def _slow_lion_memory(r: float, beta2: float, kept: float, count: int) -> float:
    """`lion_memory` where β2 is so close to 1 that neighbouring lags are alike.

    The sum over lags is the integral plus half of both ends (Euler-Maclaurin), plus the tail. Where
    `kept` makes the terms fade or alternate before β2 does, they are few, or cancel as they do at
    constant r.
    """
    if kept < 1.0 - 1.0 / MOST_LAGS:
        first = math.asin(r)  # r hardly falls while the rest fades
        return 2.0 / math.pi * first / (1.0 - beta2 * kept)
    fall = -math.log(beta2) - math.log(kept)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    depth = count * -math.log(beta2) / 2.0  # ln of r's fall, halved
    at = depth * (1.0 + nodes)
    share = math.log(kept) / math.log(beta2)
    curve = np.arcsin(r * np.exp(-at)) * np.exp(-at * share)
    whole = depth * float(weights @ curve) / -math.log(beta2)
    last = math.asin(r * math.exp(-2.0 * depth)) * math.exp(-2.0 * depth * share)
    tail = last / -math.expm1(-fall)
    return 2.0 / math.pi * (whole + (math.asin(r) - last) / 2.0 + tail)
