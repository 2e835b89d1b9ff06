"""How the radius of SGD's weights moves, and the effective rate with it.

Roburin et al., equations 10 and 48, their solution by Taylor expansion, the recursion that Φ, the
effective learning rate of SGD with L2, obeys by itself, and Li & Arora (2020), theorem B.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spherical_motion import checks
from spherical_motion.checks import Array, Number, above_zero, held, not_negative, number, plain
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.theory.settings import is_heavy_ball
from spherical_motion.vocabulary.hyperparameters import HyperParameters


@checks.validated
def radius_ratio_on_sphere(radial: Number | float, tangent: Number | float) -> Number:
    """r'/r = (1 - A<c, u>)·√(1 + tan²Δ), tangent = η_e|c⊥| (Roburin, eq. 10; exact).

    >>> round(radius_ratio_on_sphere(radial=0.0, tangent=1.0) ** 2, 12)
    2.0
    """
    left = above_zero("radius_ratio_on_sphere", "1 - radial", 1.0 - np.asarray(radial, np.float64))
    return plain(left * np.hypot(1.0, np.asarray(tangent, np.float64)))


@checks.validated
def radius_sq_after(
    radius_sq: Number | float,
    lr: Number | float,
    unit_grad_sq: Number | float,
    weight_decay: Number | float = 0.0,
) -> Number:
    """r'² = (1 - ηλ)²r² + η²|g̃|²/r² after a step of SGD (Roburin, eq. 48, has λ = 0); exact.

    >>> radius_sq_after(1.0, lr=0.5, unit_grad_sq=4.0)
    2.0
    """
    function = "radius_sq_after"
    square = above_zero(function, "radius_sq", radius_sq)
    rate = not_negative(function, "lr", lr)
    drive = not_negative(function, "unit_grad_sq", unit_grad_sq)
    decay = rate * not_negative(function, "weight_decay", weight_decay)
    with np.errstate(over="ignore", under="ignore"):
        pushed = (rate * np.sqrt(drive) / np.sqrt(square)) ** 2
        return held(function, (1.0 - decay) ** 2 * square + pushed)


@checks.validated
def radius_sq_by_taylor(lr: ArrayLike, unit_grad_sq: ArrayLike, radius0: float) -> Array:
    """r_k² = √(r_0⁴ + 2Σ_{i<k} η_i²|g̃_i|²), shape (steps + 1,): SGD without decay.

    The solution of r'² = r² + η²|g̃|²/r² (Roburin, eq. 48) to second order in the step: each step
    leaves out (η|g̃|)⁴/(2r⁶). AdaGradG rests on it.

    >>> np.round(radius_sq_by_taylor(0.1, [50.0, 50.0], radius0=1.0), 4)
    array([1.    , 1.4142, 1.7321])
    """
    squares = not_negative("radius_sq_by_taylor", "unit_grad_sq", unit_grad_sq)
    rates = not_negative("radius_sq_by_taylor", "lr", lr)
    if squares.ndim:
        rates = checks.fitted("radius_sq_by_taylor", "lr", rates, squares.shape)
    pushed = rates * np.sqrt(squares)
    if pushed.ndim != 1:
        raise InvalidArgument(
            "radius_sq_by_taylor expects lr and unit_grad_sq of shape (steps,), got "
            f"{pushed.shape}."
        )
    start = above_zero("radius_sq_by_taylor", "radius0", radius0)
    with np.errstate(over="ignore", under="ignore"):
        largest = np.maximum(start**2, np.max(pushed, initial=0.0))  # its square may overflow
        first, added = start**2 / largest, (pushed / largest) ** 2
        sums = np.concatenate([[0.0], np.cumsum(added)])
        return np.atleast_1d(held("radius_sq_by_taylor", largest * np.sqrt(first**2 + 2.0 * sums)))


@checks.validated
def taylor_variables(
    lr: Number | float, unit_grad_sq: Number | float, norm: Number | float
) -> tuple[Number, Number]:
    """(as printed, as expanded): (η|g̃|)²/r² and (η|g̃|)²/r⁴.

    The theorem on AdaGradG names the first; its proof expands the root in the second, which is
    tan²Δ, a pure number. `sphere.taylor_variable` and `taylor_variable_remainder` are the same from
    records.

    >>> taylor_variables(0.5, 4.0, 2.0)
    (0.25, 0.0625)
    """
    r = above_zero("taylor_variables", "norm", norm)
    squares = not_negative("taylor_variables", "unit_grad_sq", unit_grad_sq)
    with np.errstate(over="ignore", under="ignore"):
        printed = not_negative("taylor_variables", "lr", lr) * np.sqrt(squares) / r
        return (
            held("taylor_variables", printed**2),
            held("taylor_variables", (printed / r) ** 2),
        )


@checks.validated
def effective_rate_recursion(
    lr: ArrayLike, weight_decay: ArrayLike, unit_grad_sq: ArrayLike, norm0: float
) -> Array:
    """Φ_t = η_t/((1 - η_tλ_t)|w_t|²) of SGD with L2 and no momentum, for any schedule; exact.

    With a_t = 1 - η_tλ_t: Φ_{t+1} = B_tΦ_t/(1 + Φ_t²|g̃_t|²), B_t = η_{t+1}/(η_t·a_t·a_{t+1}).
    The norm has dropped out: on the sphere only Φ acts, and tan Δ_t = Φ_t|g̃_t|.

    Args:
        lr, weight_decay: shape (steps,), lr > 0 and lr × weight_decay < 1.
        unit_grad_sq: |g̃_t|², scalar or (steps,).
        norm0: |w_0|.

    Returns:
        Φ at each step, shape (steps,).

    Raises OutOfDomain: an argument outside its range.

    >>> rates = effective_rate_recursion(np.full(40_000, 0.1), np.full(40_000, 1e-3), 10.0, 10.0)
    >>> round(float(rates[-1] ** 2 * 10.0), 6)                    # tan²Δ, 2ηλ to leading order
    0.0002
    """
    lr, weight_decay = np.asarray(lr, np.float64), np.asarray(weight_decay, np.float64)
    if lr.ndim != 1 or lr.size == 0 or lr.shape != weight_decay.shape:
        raise InvalidArgument(
            "effective_rate_recursion expects lr and weight_decay of one shape (steps,), got "
            f"{lr.shape} and {weight_decay.shape}."
        )
    function = "effective_rate_recursion"
    above_zero(function, "lr", lr)
    kept = above_zero(function, "1 - lr × weight_decay", 1.0 - lr * weight_decay)
    squares = not_negative(function, "unit_grad_sq", unit_grad_sq)
    grad = checks.fitted(function, "unit_grad_sq", squares, lr.shape)
    jump = lr[1:] / (lr[:-1] * kept[:-1] * kept[1:])
    rates, start = np.empty(lr.shape), above_zero(function, "norm0", norm0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rates[0] = lr[0] / kept[0] / start / start
        for t in range(lr.size - 1):
            tangent = rates[t] * np.sqrt(grad[t])
            rates[t + 1] = jump[t] * rates[t] / (1.0 + tangent * tangent)
        return np.atleast_1d(held(function, rates))


@checks.validated
def effective_rate_flow(
    hp: HyperParameters, rate0: Number | float, time: Number | float, *, unit_grad_sq: float
) -> Number:
    """Φ after `time` steps in continuous time: dΦ/dt = 2ηλΦ - |g̃|²Φ³, solved.

    Φ^{-2} = e^{-4ηλt}Φ_0^{-2} + (1 - e^{-4ηλt})|g̃|²/(2ηλ): the recursion above to leading order in
    ηλ and Φ²|g̃|², and γ = |w|⁴/η² of the stochastic differential equation under another name.

    Raises:
        OutOfDomain: lr × weight_decay, rate0 or unit_grad_sq not positive.
        NoTheory: anything but SGD with L2 and without momentum.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    >>> round(effective_rate_flow(hp, 1e-3, 1e6, unit_grad_sq=10.0) ** 2 * 10.0, 9)
    0.0002
    """
    function = "effective_rate_flow"
    if not is_heavy_ball(hp) or hp.momentum:
        raise NoTheory(f"{function} holds for SGD with L2 and without momentum.")
    a = above_zero(function, "lr × weight_decay", hp.intrinsic_lr)
    start, grad = (
        above_zero(function, n, v) for n, v in (("rate0", rate0), ("unit_grad_sq", unit_grad_sq))
    )
    faded = 4.0 * a * not_negative(function, "time", time)
    rest = grad / (2.0 * a)
    # Φ is the inverse of the hypotenuse of what is left of 1/Φ_0 and of the rest.
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        left, reached = np.exp(-faded / 2.0) / start, np.sqrt(-np.expm1(-faded) * rest)
        return held(function, 1.0 / np.hypot(left, reached))


@checks.validated
def undecayed_norm_sq(norm_sq0: ArrayLike, step_sq: ArrayLike, momentum: float) -> Array:
    """|w|² before each step and after the last, from the squared lengths of the steps alone.

    With R = |w|², D = |d|² and a constant learning rate, <w, g> = 0 gives from an empty buffer
    R_{t+1} = R_0 + Σ_{i<=t} (1 - γ^{t-i+1})/(1 - γ)·(D_i + γD_{i-1}), D_{-1} = 0: theorem B.1 of
    Li & Arora (2020) for SGD with heavy-ball momentum and no weight decay; exact. They print it
    without R_0, and the terms of a buffer that is not empty with the wrong sign:
    γ(1 - γ^{t+1})/(1 - γ)·(R_0 - R_{-1}) is to be added. For a learning rate that changes, the
    increase is at least γ^{t+1}(η_t/η_{-1})(R_0 - R_{-1}): from an empty buffer the norm never
    falls.

    Args:
        norm_sq0: |w|² before the first step, scalar or (groups,), > 0.
        step_sq: |d|² of each step, shape (steps,) or (steps, groups), >= 0.
        momentum: γ, in [0, 1).

    Returns:
        Shape (steps + 1,) or (steps + 1, groups).

    Raises OutOfDomain: a value outside its range.

    >>> undecayed_norm_sq(1.0, [0.1, 0.1], momentum=0.5).tolist()
    [1.0, 1.1, 1.3]
    """
    steps = not_negative("undecayed_norm_sq", "step_sq", step_sq)
    if steps.ndim == 0:
        raise InvalidArgument(
            "undecayed_norm_sq(step_sq=...) must have shape (steps,) or (steps, groups), got a "
            "single number."
        )
    start = above_zero("undecayed_norm_sq", "norm_sq0", norm_sq0)
    number("undecayed_norm_sq", "momentum", momentum, least=0.0, below=1.0, error=OutOfDomain)
    path = np.empty((len(steps) + 1, *np.broadcast_shapes(steps.shape[1:], start.shape)))
    path[0] = start
    rise, before = np.zeros(path.shape[1:]), np.zeros(path.shape[1:])
    for t, length in enumerate(steps):
        rise = momentum * (rise + before) + length
        before = length
        path[t + 1] = path[t] + rise
    return path
