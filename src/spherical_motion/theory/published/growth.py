"""How fast the rate grows that replaces a constant weight decay (Li & Arora, 2020, theorem 2.1).

With constant η, λ and momentum γ, the product Q_t = α_1 ··· α_t = 1/P_t of `exponential.py` obeys
Q_{t+1} = (1 + γ - ηλ)Q_t - γQ_{t-1} with Q_0 = Q_{-1} = 1, so

    Q_t = [z_1(1 - z_2)·z_1^t - z_2(1 - z_1)·z_2^t] / (z_1 - z_2),

z_1 > z_2 the roots of x² - (1 + γ - ηλ)x + γ = 0 (eq. 4). Both are real and positive, and P_t
stays positive, for ηλ < (1 - √γ)². After about 1/(1 - γ) steps only z_1 is left.

All functions work elementwise on arrays; rates are those of `torch.optim.SGD` with L2 decay.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array, Number, held, not_negative, number, numbers_in, plain
from spherical_motion.errors import OutOfDomain

LOGARITHM = "Take steps × log_growth_rate(...), its logarithm."

LONGEST = 1e15
"""Steps that float64 counts one by one."""

FLOAT32_MAX = float(np.finfo(np.float32).max)


@checks.validated
def growth_root(
    lr: Number | float, weight_decay: Number | float, momentum: Number | float
) -> Number:
    """z, the larger root of x² - (1 + γ - ηλ)x + γ = 0: the weights grow by 1/z a step.

    Source: Li & Arora (2020), eq. 4; exact.

    Raises OutOfDomain: outside 0 <= momentum < 1 and 0 <= ηλ < (1 - √γ)².

    >>> z = growth_root(0.1, 5e-4, 0.9)
    >>> abs(float(z**2 - (1.9 - 5e-5) * z + 0.9)) < 1e-15
    True
    """
    return plain(1.0 - _shrinks("growth_root", lr, weight_decay, momentum)[0])


@checks.validated
def log_growth_rate(
    lr: Number | float, weight_decay: Number | float, momentum: Number | float
) -> Number:
    """-2 ln z, by which the logarithm of the rate grows a step; exact, also where it is tiny.

    Raises what `growth_root` raises.

    >>> round(float(log_growth_rate(1e-8, 1e-8, 0.0)) * 1e16, 12)
    2.0
    """
    return plain(-2.0 * np.log1p(-_shrinks("log_growth_rate", lr, weight_decay, momentum)[0]))


@checks.validated
def growth_rate(
    lr: Number | float, weight_decay: Number | float, momentum: Number | float,
    steps: Number | float = 1,
) -> Number:  # fmt: skip
    """z^{-2·steps}, the factor by which the rate grows over that many steps.

    Source: Li & Arora (2020), theorem 2.1; exact, apart from the first 1/(1 - γ) steps.
    Raises what `growth_root` raises, and OutOfDomain for a factor beyond float64; its logarithm is
    `log_growth_rate` times the steps.

    >>> round(float(growth_rate(0.1, 5e-4, 0.9, steps=391)), 3)   # an epoch of their figure 1
    1.481
    """
    rate = log_growth_rate(lr, weight_decay, momentum)
    time = not_negative("growth_rate", "steps", steps)
    with np.errstate(over="ignore"):
        return held("growth_rate", np.exp(rate * time), LOGARITHM)


@checks.validated
def growth_rate_approx(
    lr: Number | float, weight_decay: Number | float, momentum: Number | float,
    steps: Number | float = 1,
) -> Number:  # fmt: skip
    """e^{2ηλ·steps/(1 - γ)}, the leading order of `growth_rate`; valid for ηλ ≪ (1 - γ)².

    Raises what `growth_root` raises.

    >>> round(float(growth_rate_approx(0.1, 5e-4, 0.9, steps=391)), 3)
    1.478
    """
    eta, lam, gamma = _checked("growth_rate_approx", lr, weight_decay, momentum)
    time = not_negative("growth_rate_approx", "steps", steps)
    with np.errstate(over="ignore"):
        factor = np.exp(2.0 * eta * lam * time / (1.0 - gamma))
    return held("growth_rate_approx", factor, LOGARITHM)


@checks.validated
def exponential_log_scale(
    lr: Number | float, weight_decay: Number | float, momentum: Number | float,
    steps: Number | float,
) -> Number:  # fmt: skip
    """log P_t after `steps` steps at constant settings, from an empty buffer: the closed form.

    What `exponential_schedule` reaches by its recursion. Raises what `growth_root` raises.

    >>> round(float(exponential_log_scale(0.1, 5e-4, 0.9, 391)), 4)
    0.1919
    """
    first, second = _shrinks("exponential_log_scale", lr, weight_decay, momentum)
    time = np.asarray(steps, np.float64)
    gap = second - first
    # Q_t = z_1^t·[(1 - z_2)z_1 - (1 - z_1)z_2·(z_2/z_1)^t] / (z_1 - z_2), near 1 written as 1 + ...
    ratio = np.where(time > 0, ((1.0 - second) / (1.0 - first)) ** time, 1.0)
    beyond = first * (1.0 - second) * (1.0 - ratio) / gap
    return plain(-time * np.log1p(-first) - np.log1p(beyond))


@checks.validated
def steps_to_overflow(
    lr: float, weight_decay: float, momentum: float, largest: float = FLOAT32_MAX
) -> int:
    """The first step whose rate η̃_t is beyond `largest`, at constant settings.

    Raises:
        OutOfDomain: as `growth_root`; also lr or weight_decay of 0, when nothing grows, and a
            `largest` that is not above lr.

    >>> steps_to_overflow(0.1, 5e-4, 0.9)
    90600
    """
    _require_growth("steps_to_overflow", lr, weight_decay, largest)
    rate = float(log_growth_rate(lr, weight_decay, momentum))

    def is_beyond(step: int) -> bool:
        here, after = exponential_log_scale(
            lr, weight_decay, momentum, np.array([step, step + 1.0])
        )
        return math.log(lr) + here + after > math.log(largest)

    # log η̃_t never falls, so the first step beyond is found by bisection.
    span = (math.log(largest) - math.log(lr)) / rate if rate > 0.0 else math.inf
    if not span < LONGEST:
        raise OutOfDomain(
            f"steps_to_overflow: lr × weight_decay = {lr * weight_decay:g} makes the rate overflow "
            f"only after more than {LONGEST:.0e} steps, which are not counted one by one. "
            "steps_to_overflow_approx tells about how many."
        )
    low, high = -1, max(1, math.ceil(span))
    while not is_beyond(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return high


@checks.validated
def steps_to_overflow_approx(
    lr: float, weight_decay: float, momentum: float, largest: float = FLOAT32_MAX
) -> float:
    """ln(largest/η)·(1 - γ)/(2ηλ), the leading order of `steps_to_overflow`; not rounded.

    Raises what `steps_to_overflow` raises.

    >>> round(steps_to_overflow_approx(0.1, 5e-4, 0.9))
    91025
    """
    where = "steps_to_overflow_approx"
    _checked(where, lr, weight_decay, momentum)
    _require_growth(where, lr, weight_decay, largest)
    span = math.log(largest) - math.log(lr)
    return held(where, span * (1.0 - momentum) / (2.0 * lr * weight_decay))


def _shrinks(
    where: str, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike
) -> tuple[Array, Array]:
    """1 - z_1 and 1 - z_2, the roots of y² - (1 - γ + ηλ)y + ηλ = 0, the small one uncancelled."""
    eta, lam, gamma = _checked(where, lr, weight_decay, momentum)
    x, root = eta * lam, np.sqrt(gamma)
    spread = np.sqrt(((1.0 - root) ** 2 - x) * ((1.0 + root) ** 2 - x))
    larger = (1.0 - gamma + x + spread) / 2.0
    return x / larger, larger


def _checked(
    where: str, lr: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike
) -> tuple[Array, Array, Array]:
    eta, lam = not_negative(where, "lr", lr), not_negative(where, "weight_decay", weight_decay)
    gamma = numbers_in(where, "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    product, limit = np.broadcast_arrays(eta * lam, (1.0 - np.sqrt(gamma)) ** 2)
    over = ~(product < limit)
    if over.any():
        raise OutOfDomain(
            f"{where} expects lr × weight_decay < (1 - √momentum)² = {limit[over][0]:.4g}, got "
            f"{product[over][0]:.4g}: beyond it the weights oscillate along themselves and no "
            "positive scale undoes the decay. Lower lr, weight_decay or momentum."
        )
    return eta, lam, gamma


def _require_growth(where: str, lr: float, weight_decay: float, largest: float) -> None:
    if not lr * weight_decay > 0:
        raise OutOfDomain(
            f"{where}: the rate grows only if lr and weight_decay are > 0, got lr={lr:g} and "
            f"weight_decay={weight_decay:g}."
        )
    number(where, "largest", largest, above=lr, error=OutOfDomain)
