"""Weight decay, written as a growing learning rate (Li & Arora, 2020, section 2).

Take SGD with momentum γ and L2 decay on a loss that does not depend on the length of the weights.
The same network at every step comes from SGD *without* decay, at a learning rate that grows about
exponentially (their theorem 2.5, derived from `torch.optim.SGD`'s update; exact for any η_t, λ_t):

    α_t = 1 - η_{t-1}λ_{t-1} + (η_{t-1}/η_{t-2})·γ·(1 - 1/α_{t-1}),    η_{-1} = η_0,
    P_t = 1/(α_1 ··· α_t),    w̃_t = P_t·w_t,    η̃_t = P_t·P_{t+1}·η_t,

as long as every α_t > 0 and *every* trained parameter is scale-invariant; any other keeps its own
η_t and λ_t. P grows without bound, so the code keeps its logarithm, a sum of positive terms in
which nothing cancels: with a_t = 1 - α_t,

    a_t = η_{t-1}λ_{t-1} + (η_{t-1}/η_{t-2})·γ·a_{t-1}/(1 - a_{t-1}),    log P_t = -Σ log1p(-a_i).

For constant η and λ, α_t tends to z, the larger root of x² - (1 + γ - ηλ)x + γ = 0 (eq. 4), and
the rate grows by z^{-2} a step; `growth.py` has what follows from that alone.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherical_motion import checks
from spherical_motion.checks import Array, Number, not_negative, number, numbers_in, plain
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.theory.published.growth import growth_root, log_growth_rate


@dataclasses.dataclass(frozen=True, slots=True)
class RecentredSchedule:
    """An exponential schedule that stays within floating point by shrinking the weights at times.

    Before step `steps[i]`, multiply the weights by `factors[i]` and the momentum buffer by its
    inverse; the learning rates assume it. The function and its motion stay the same, because the
    gradient of a scale-invariant loss is homogeneous of degree -1. Powers of two do not round.

    Attributes:
        lrs: learning rate of each step, shape (steps,).
        steps: before which to re-centre, increasing, shape (events,).
        factors: what to multiply the weights by, shape (events,).
    """

    lrs: Array
    steps: NDArray[np.int64]
    factors: Array


@dataclasses.dataclass(frozen=True, slots=True)
class ExponentialRates:
    """Learning rates that do without weight decay what a schedule with it does.

    Attributes:
        log_lrs: log η̃_t, shape (steps,).
        log_scale: log P_t, by which the weights before step t are longer than those of the run
            with decay, shape (steps,).
        final_log_scale: log P after the last step.
    """

    log_lrs: Array
    log_scale: Array
    final_log_scale: float

    @property
    def lrs(self) -> Array:
        """η̃_t, shape (steps,).

        Raises OutOfDomain: one does not fit into a float64; `log_lrs` and `recentred` do without.
        """
        with np.errstate(over="ignore"):
            lrs = np.exp(self.log_lrs)
        if not np.isfinite(lrs).all():
            step = int(np.argmax(~np.isfinite(lrs)))
            raise OutOfDomain(
                f"ExponentialRates.lrs: from step {step} on the rate is beyond float64, "
                f"e^{self.log_lrs[step]:.1f}. Use .log_lrs, or .recentred(), which shrinks the "
                "weights now and then instead."
            )
        return lrs

    def recentred(self, largest: float = 2.0**20) -> RecentredSchedule:
        """The same motion with weights that never grow beyond `largest` times the decayed run's.

        Args:
            largest: >= 2; the rates stay below about its square times η_t.

        >>> schedule = exponential_schedule([0.1] * 100_000, 5e-4, momentum=0.9)
        >>> tame = schedule.recentred()
        >>> len(tame.factors), float(tame.lrs.max()) < 0.1 * 2.0**41
        (3, True)
        """
        largest = number("recentred", "largest", largest, least=2.0, error=OutOfDomain)
        offset, offsets, steps, factors = 0.0, np.zeros_like(self.log_scale), [], []
        while self.log_scale[-1] - offset > math.log(largest):
            # The scale never falls, so the first step beyond is found by bisection.
            step = int(np.searchsorted(self.log_scale, offset + math.log(largest), side="right"))
            bits = math.floor((self.log_scale[step] - offset) / math.log(2.0))
            offset += bits * math.log(2.0)
            offsets[step:] = offset
            steps.append(step)
            factors.append(2.0**-bits)
        lrs = np.exp(self.log_lrs - 2.0 * offsets)
        return RecentredSchedule(lrs, np.array(steps, np.int64), np.array(factors, np.float64))


@checks.validated
def exponential_schedule(
    lrs: ArrayLike, weight_decays: ArrayLike, momentum: float
) -> ExponentialRates:
    """Learning rates that replace weight decay exactly: theorem 2.5 of Li & Arora (2020).

    The momentum buffer starts empty, as in torch. Over 10⁶ steps log P is right to about 1e-15 of
    itself (against 40 digits). Definition 2.6, for a step decay, has the ratio of rates one step
    earlier than theorem 2.5 if the new rate acts from η_{T_I} on; this follows theorem 2.5.

    Args:
        lrs: η_t, shape (steps,), > 0.
        weight_decays: λ_t, a number or shape (steps,), >= 0.
        momentum: γ, constant, in [0, 1).

    Raises:
        OutOfDomain: a value outside its range, or α_t <= 0 at some step: decay that strong turns
            the weights around within a step, and no positive P_t does that. For constant settings
            it happens beyond ηλ = (1 - √γ)².
        InvalidArgument: shapes that do not fit.

    >>> schedule = exponential_schedule([0.1] * 3, 0.5, momentum=0.0)
    >>> schedule.lrs.round(6).tolist()                      # 0.1·0.95^{-(2t + 1)}
    [0.105263, 0.116635, 0.129236]
    """
    eta, lam, gamma = rates_and_decays("exponential_schedule", lrs, weight_decays, momentum)
    log_scale = np.empty(eta.size + 1)
    log_scale[0] = 0.0
    shrink, total, lost, before = 0.0, 0.0, 0.0, float(eta[0])
    for t, (rate, decay) in enumerate(zip(eta.tolist(), lam.tolist(), strict=True), start=1):
        shrink = rate * decay + rate / before * gamma * shrink / (1.0 - shrink)
        if not shrink < 1.0:
            raise OutOfDomain(_turned(t, 1.0 - shrink, rate, decay, before, gamma))
        # Kahan's sum: of 10⁶ terms a plain one would lose up to four digits.
        term = -math.log1p(-shrink) - lost
        grown = total + term
        lost, total = (grown - total) - term, grown
        log_scale[t] = total
        before = rate
    return _assembled(np.log(eta), log_scale)


@checks.validated
def fixed_exponential_schedule(
    lr: float, weight_decay: float, momentum: float, steps: int
) -> ExponentialRates:
    """The purely geometric schedule for constant settings: η̃_t = z^{-(2t + 1)}·η, P_t = z^{-t}.

    Theorem 2.1 of Li & Arora (2020): theorem 2.5 with α_0 = z instead of 1. Exact if the momentum
    buffer of the run without decay starts as -(1 - z)/(zη)·w_0 and that of the decayed run empty;
    if both start empty, the runs differ during the first 1/(1 - γ) steps. Counting steps from 0,
    the paper prints z^{-(2t + 3)}, and its momentum term lacks the ratio of rates, z^{-2}.

    Args:
        lr, weight_decay, momentum: as in `growth_root`; lr > 0.
        steps: how many.

    Raises:
        OutOfDomain: outside 0 <= ηλ < (1 - √γ)², or lr = 0.
        InvalidArgument: steps below 1.

    >>> schedule = fixed_exponential_schedule(0.1, 5e-4, 0.9, steps=392)
    >>> round(float(schedule.lrs[391] / schedule.lrs[0]), 3)
    1.481
    """
    where = "fixed_exponential_schedule"
    steps = checks.count_of_steps(where, "steps", steps)
    rate = float(log_growth_rate(lr, weight_decay, momentum))
    if lr == 0:
        raise OutOfDomain(f"{where}(lr=...) must be > 0: a rate of 0 has no logarithm.")
    log_scale: Array = 0.5 * rate * np.arange(steps + 1, dtype=np.float64)
    return _assembled(np.full(steps, math.log(lr)), log_scale)


@checks.validated
def tapered_exponential_schedule(
    lrs: ArrayLike,
    weight_decays: ArrayLike,
    momentum: float,
    *,
    instant_drop: bool = True,
    printed: bool = False,
) -> ExponentialRates:
    """T-EXP: the rate grows by z(η_tλ_t)^{-2} a step and drops where η_t does.

    Theorem 2.4 of Li & Arora (2020), without the correction that settles within about 1/(1 - γ)
    steps after each change; `exponential_schedule` is exact. `instant_drop=False` gives T-EXP v2
    (eq. 7): only the growth slows down, as for a constant η_0 with a weight decay of η_tλ_t/η_0.
    Theorem 2.4 prints the drop one step late.

    Args:
        lrs, weight_decays, momentum: as in `exponential_schedule`; a step decay in the paper.
        instant_drop: whether the rate drops with η_t.
        printed: put the drop where the paper prints it.

    `log_scale` of the result is the growth alone, -Σ ln z.

    Raises:
        OutOfDomain: outside 0 <= η_tλ_t < (1 - √γ)² at some step, or η_t = 0.
        InvalidArgument: shapes that do not fit.

    >>> drop = [0.1] * 2 + [0.01] * 3
    >>> [round(float(x), 4) for x in tapered_exponential_schedule(drop, 5e-4, 0.0).lrs]
    [0.1, 0.1, 0.01, 0.01, 0.01]
    >>> late = tapered_exponential_schedule(drop, 5e-4, 0.0, printed=True)
    >>> [round(float(x), 4) for x in late.lrs]
    [0.1, 0.1, 0.1, 0.01, 0.01]
    """
    eta, lam, gamma = rates_and_decays("tapered_exponential_schedule", lrs, weight_decays, momentum)
    growth = np.broadcast_to(log_growth_rate(eta, lam, gamma), eta.shape)
    log_scale = np.concatenate([[0.0], np.cumsum(growth) / 2.0])
    log_eta = np.log(eta)
    if not instant_drop:
        log_eta = np.full_like(log_eta, log_eta[0])
    elif printed:
        log_eta = np.concatenate([log_eta[:1], log_eta[:-1]])
    return ExponentialRates(log_eta + 2.0 * log_scale[:-1], log_scale[:-1], float(log_scale[-1]))


@checks.validated
def tapered_exponential_bound(
    lr: float, weight_decay: float, momentum: float, steps_into_stage: Number
) -> Number:
    """How far T-EXP's growth can be from the exact one: (3/2)·(γ/z²)^{t - T_I}.

    Theorem 2.7 of Li & Arora (2020): |η̂_{t-1}/η̂_t - η̃_{t-1}/η̃_t| at step t of the stage that
    starts at T_I, for rates that only fall. It holds for the drop in its place; not, at
    t = T_I + 1, for theorem 2.4 as printed.

    Args:
        lr, weight_decay, momentum: of the *first* stage, whose root z is the smallest.
        steps_into_stage: t - T_I, >= 1.

    Raises OutOfDomain: outside 0 <= ηλ < (1 - √γ)², or `steps_into_stage` below 1.

    >>> tapered_exponential_bound(0.1, 5e-4, 0.9, [1, 10, 100]).round(6).tolist()
    [1.351357, 0.528299, 4.4e-05]
    """
    where = "tapered_exponential_bound"
    into = numbers_in(where, "steps_into_stage", steps_into_stage, least=1.0, error=OutOfDomain)
    return plain(1.5 * (momentum / growth_root(lr, weight_decay, momentum) ** 2) ** into)


def _assembled(log_eta: Array, log_scale: Array) -> ExponentialRates:
    """η̃_t = P_t·P_{t+1}·η_t, from log P before each step and after the last."""
    log_lrs = log_eta + log_scale[:-1] + log_scale[1:]
    return ExponentialRates(log_lrs, log_scale[:-1], float(log_scale[-1]))


def rates_and_decays(
    where: str, lrs: ArrayLike, weight_decays: ArrayLike, momentum: float
) -> tuple[Array, Array, float]:
    """One rate > 0 and one decay >= 0 a step, and the momentum, checked."""
    eta, lam = per_step(where, "lrs", lrs, "weight_decays", weight_decays)
    remedy = "A step of rate 0 moves nothing: leave it out." if (eta == 0).any() else ""
    numbers_in(where, "lrs", eta, above=0.0, remedy=remedy, error=OutOfDomain)
    not_negative(where, "weight_decays", weight_decays)
    momentum = number(where, "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    return eta, lam, momentum


def per_step(
    where: str, name: str, values: ArrayLike, other_name: str, others: ArrayLike
) -> tuple[Array, Array]:
    """`values`, one a step, and `others`, a number or one a step, as arrays of shape (steps,)."""
    each, other = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if each.ndim != 1 or each.size == 0:
        raise InvalidArgument(
            f"{where}({name}=...) expects one value a step, shape (steps,), got shape {each.shape}."
        )
    if other.shape not in ((), each.shape):
        raise InvalidArgument(
            f"{where}({other_name}=...) expects a number or shape {each.shape}, got {other.shape}."
        )
    return each, np.broadcast_to(other, each.shape)


def _turned(t: int, alpha: float, rate: float, decay: float, before: float, gamma: float) -> str:
    limit = (1.0 - math.sqrt(gamma)) ** 2
    return (
        f"exponential_schedule: α_t must be > 0 at every step, got α_{t} = {alpha:.4g} after step "
        f"{t - 1}, where lr={rate:g}, weight_decay={decay:g}, momentum={gamma:g}"
        + (f", after lr={before:g}" if before != rate else "")
        + f". At constant settings α_t stays positive for lr × weight_decay < (1 - √momentum)² = "
        f"{limit:.4g}, here {rate * decay:.4g}. "
        + (
            "Lower the weight decay or the momentum."
            if rate * decay >= limit
            else "The rate rises too steeply: raise it over more steps."
        )
    )
