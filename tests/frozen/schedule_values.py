"""Closed forms that need no family: exponential schedules, growth, the sphere, the toy problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from frozen.flat import Value, call
from spherical_motion import theory

__all__ = ["values"]

GROWTHS: tuple[tuple[Any, Any, Any], ...] = (
    (0.1, 5e-4, 0.9),
    (0.1, 5e-4, 0.0),
    (0.4, 1e-2, 0.5),
    (0.01, 0.1, 0.99),
    (0.0, 1e-3, 0.9),
    (0.1, 0.0, 0.9),
    (1.0, 0.3, 0.9),
    (0.1, 1e-3, 1.0),
    (-0.1, 1e-3, 0.9),
    ([0.1, 0.2], [1e-3, 1e-4], 0.9),
    (0.1, 1e-3, [0.0, 0.5, 0.95]),
    (math.nan, 1e-3, 0.9),
)


def values() -> Iterator[Value]:
    """All keys and values of these functions."""
    yield from _growth()
    yield from _exponential()
    yield from _inverse()
    yield from _adaptive()
    yield from _sphere()
    yield from _toy()


def _growth() -> Iterator[Value]:
    for i, told in enumerate(GROWTHS):
        for name in ("growth_rate", "growth_rate_approx", "growth_root", "log_growth_rate"):
            yield from call(f"{name}/{i}", getattr(theory, name), *told)
        for steps in (0, 391, [1, 10, 1000]):
            for name in ("growth_rate", "growth_rate_approx", "exponential_log_scale"):
                if np.ndim(steps) == 0 or all(np.ndim(x) == 0 for x in told):
                    yield from call(f"{name}/{i}/{steps}", getattr(theory, name), *told, steps)
        if all(np.ndim(x) == 0 for x in told):
            for name in ("steps_to_overflow", "steps_to_overflow_approx"):
                for largest in (3.4e38, 16.0, 1e-9):
                    key = f"{name}/{i}/{largest:g}"
                    yield from call(key, getattr(theory, name), *told, largest)
            bound = theory.tapered_exponential_bound
            yield from call(f"tapered_exponential_bound/{i}", bound, *told, [1, 10, 100])
        narrow = theory.narrowest_well
        yield from call(f"narrowest_well/{i}", narrow, *told)


def _exponential() -> Iterator[Value]:
    plans = {
        "constant": [0.1] * 30,
        "drops": np.repeat([0.1, 0.01, 0.001], 10),
        "cosine": 0.05 * (1.1 + np.cos(np.linspace(0, np.pi, 30))),
        "steep": np.geomspace(1e-6, 1.0, 30),
        "zero": [0.1, 0.0, 0.1],
        "empty": [],
        "matrix": [[0.1]],
    }
    for name, lrs in plans.items():
        for decay in (0.0, 5e-4, 0.02, 1.0):
            for momentum in (0.0, 0.9):
                key = f"{name}/{decay}/{momentum}"
                yield from call(
                    f"exponential_schedule/{key}", theory.exponential_schedule, lrs, decay, momentum
                )
        for label, told in (("v1", {}), ("v2", {"instant_drop": False}), ("p", {"printed": True})):
            key = f"tapered_exponential_schedule/{name}/{label}"
            yield from call(key, theory.tapered_exponential_schedule, lrs, 5e-4, 0.9, **told)
    varying = np.linspace(0.0, 0.02, 30)
    yield from call("exponential_schedule/v", theory.exponential_schedule, [0.1] * 30, varying, 0.5)
    for steps in (0, 1, 40):
        key = f"fixed_exponential_schedule/{steps}"
        yield from call(key, theory.fixed_exponential_schedule, 0.1, 5e-4, 0.9, steps)
    long = theory.exponential_schedule([0.1] * 3000, 0.02, 0.9)
    for largest in (1.0, 2.0, 2.0**20):
        yield from call(f"exponential_schedule/recentred/{largest:g}", long.recentred, largest)


def _inverse() -> Iterator[Value]:
    there = theory.exponential_schedule(np.repeat([0.1, 0.02], 8), 0.01, momentum=0.9)
    undo = theory.undo_exponential_schedule
    for key, lrs, momentum in (
        ("same", np.repeat([0.1, 0.02], 8), 0.9),
        ("constant", 0.1, 0.9),
        ("plain", 0.1, 0.0),
        ("zero", 0.0, 0.9),
        ("shape", [0.1], 0.9),
        ("momentum", 0.1, 1.0),
    ):
        yield from call(f"undo_exponential_schedule/{key}", undo, there.log_lrs, lrs, momentum)
    for growth in (1.0, 1.001, 1.05, 1.2, 0.9, [1.0, 1.01]):
        for momentum in (0.0, 0.9):
            key = f"equivalent_weight_decay/{growth}/{momentum}"
            yield from call(key, theory.equivalent_weight_decay, growth, 0.1, momentum)


def _adaptive() -> Iterator[Value]:
    for b1 in (0.0, 0.5, 0.9, 0.95, 1.0):
        for b2 in (0.0, 0.9, 0.99, 1.0):
            yield from call(f"lion_factor/{b1}/{b2}", theory.lion_factor, b1, b2)
            for intrinsic in (0.0, 1e-3, 2.0):
                key = f"lion_correlation/{b1}/{b2}/{intrinsic}"
                yield from call(key, theory.lion_correlation, b1, b2, intrinsic)
    yield from call("lion_correlation/array", theory.lion_correlation, np.array([0.5, 0.9]), 0.98)
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((41, 7))
    for lags in (0, 1, 5, 40):
        key = f"autocorrelation/{lags}"
        yield from call(key, theory.autocorrelation, noise[1:] + noise[:-1], lags)
    yield from call("autocorrelation/flat", theory.autocorrelation, noise[0], 1)
    for key, rho in (("falling", [0.5, 0.25]), ("none", []), ("opposed", [-0.6])):
        yield from call(f"correlation_sum/{key}", theory.correlation_sum, rho)
        yield from call(f"largest_correlation_sum/{key}", theory.largest_correlation_sum, rho)
    for lr in (0.1, 0.0, np.linspace(0.1, 0.2, 40)):
        key = f"updates_between/{np.ndim(lr)}/{np.min(lr)}"
        yield from call(key, theory.updates_between, noise[:-1], noise[1:], lr, 0.3)
    for power in (1.0, 4.0):
        yield from call(
            f"undecayed_norm_sq/{power}", theory.undecayed_norm_sq, power, noise[:, 0] ** 2, 0.9
        )
    squares = noise[:, :2] ** 2
    yield from call("undecayed_norm_sq/groups", theory.undecayed_norm_sq, [1.0, 2.0], squares, 0.5)
    yield from call("undecayed_norm_sq/bad", theory.undecayed_norm_sq, 0.0, squares, 0.5)


def _sphere() -> Iterator[Value]:
    rng = np.random.default_rng(6)
    x, a = rng.standard_normal((2, 3, 5))
    b = 0.5 + rng.random((3, 5))
    for lr in (0.01, 0.5, 20.0, 0.0):
        yield from call(f"image_step/{lr}", theory.image_step, x, a, lr)
        yield from call(f"image_step/{lr}/divided", theory.image_step, x, a, lr, b)
    yield from call("image_step/zero", theory.image_step, 0.0 * x, a, 0.1)
    drive, rates = 1.0 + rng.random(20), np.linspace(0.1, 0.01, 20)
    decays = np.full(20, 0.1)
    for decay in (0.0, 0.1, 0.9):
        key = f"radius_sq_after/{decay}"
        yield from call(key, theory.radius_sq_after, [0.5, 1.0, 4.0], 0.5, 3.0, decay)
    for radial, tangent in ((0.0, 1.0), (0.3, 0.1), (-0.3, [0.1, 5.0]), (1.0, 0.1)):
        key = f"radius_ratio_on_sphere/{radial}/{np.ndim(tangent)}"
        yield from call(key, theory.radius_ratio_on_sphere, radial, tangent)
    for norm in (2.0, [1.0, 2.0], 0.0):
        key = f"taylor_variables/{norm}"
        yield from call(key, theory.taylor_variables, 0.5, 4.0, norm)
    yield from call("radius_sq_by_taylor", theory.radius_sq_by_taylor, rates, drive, 1.5)
    yield from call("radius_sq_by_taylor/flat", theory.radius_sq_by_taylor, 0.1, 3.0, 1.5)
    recursion = theory.effective_rate_recursion
    yield from call("effective_rate_recursion", recursion, rates, decays, drive, 1.5)
    yield from call("effective_rate_recursion/one", recursion, rates, decays, 2.0, 0.3)
    yield from call("effective_rate_recursion/bad", recursion, rates, 100.0 * decays, 2.0, 0.3)
    for momentum in (0.0, 0.5, 0.9, 0.99, 1.0):
        yield from call(f"bound_constant/{momentum}", theory.bound_constant, momentum)


def _toy() -> Iterator[Value]:
    for decay in (1e-4, 0.01, 0.5, 0.0):
        yield from call(f"toy_decayed_norm/{decay}", theory.toy_decayed_norm, decay)
    for dimension in (1, 2, 10, 300):
        yield from call(f"toy_unit_grad_sq/{dimension}", theory.toy_unit_grad_sq, dimension)
        key = f"toy_normalized_angle/{dimension}"
        yield from call(key, theory.toy_normalized_angle, dimension, [1.0, 1e4])
        key = f"toy_resting_angle/{dimension}"
        yield from call(key, theory.toy_resting_angle, [0.1, 0.5], 1e-3, dimension)
        for angle in (0.05, 0.2):
            told = {"norm": 2.0, "dimension": dimension, "angle": angle, "failure": 0.01}
            key = f"escape_bound/{dimension}/{angle}"
            yield from call(key, theory.escape_bound, 0.1, 0.1, **told)
