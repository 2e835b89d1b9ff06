from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.theory.published.growth import FLOAT32_MAX

# A scale-invariant problem that is not chaotic: four vectors on their spheres, coupled smoothly,
# with a target that changes from step to step.

GROUPS, DIMENSION = 4, 12


class Spheres:
    def __init__(self, steps: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.start = rng.standard_normal((GROUPS, DIMENSION))
        self.coupling = 0.1 * rng.standard_normal((GROUPS, GROUPS, DIMENSION, DIMENSION))
        self.targets = rng.standard_normal((steps, GROUPS, DIMENSION))

    def gradient(self, weights: np.ndarray, step: int) -> np.ndarray:
        """Of Σ tanh<target_i, u_i> + Σ <u_i, M_ij u_j>, u = w/|w|, with respect to w."""
        norm = np.linalg.norm(weights, axis=1, keepdims=True)
        u = weights / norm
        aim = np.sum(self.targets[step] * u, axis=1, keepdims=True)
        at_u = self.targets[step] / np.cosh(aim) ** 2
        at_u += np.einsum("ijab,jb->ia", self.coupling, u)
        at_u += np.einsum("jiba,jb->ia", self.coupling, u)
        return (at_u - np.sum(at_u * u, axis=1, keepdims=True) * u) / norm


def heavy_ball(problem: Spheres, lrs, weight_decays, momentum, *, buffer=None, events=()):
    """Weights before each step and after the last; `events` are {step: factor} re-centrings."""
    weights, events = problem.start.copy(), dict(events)
    v = np.zeros_like(weights) if buffer is None else buffer.copy()
    path = []
    for step, (lr, decay) in enumerate(zip(lrs, weight_decays, strict=True)):
        if step in events:
            weights, v = weights * events[step], v / events[step]
        path.append(weights)
        v = momentum * v + problem.gradient(weights, step) + decay * weights
        weights = weights - lr * v
    return np.array([*path, weights])


def angles_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    gap, total = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
    return 2.0 * np.arctan2(gap, total)


STEPS = 1800
DROPS = np.repeat([0.1, 0.01, 0.001], [600, 700, 500])


@pytest.fixture(scope="module")
def problem() -> Spheres:
    return Spheres(STEPS, seed=3)


# Theorem 2.5


def test_growing_rates_replace_decay_exactly_through_two_drops(problem) -> None:
    decay = np.full(STEPS, 5e-3)
    schedule = theory.exponential_schedule(DROPS, decay, momentum=0.9)
    decayed = heavy_ball(problem, DROPS, decay, 0.9)
    grown = heavy_ball(problem, schedule.lrs, np.zeros(STEPS), 0.9)
    assert angles_between(decayed, grown).max() < 1e-12
    ratio = np.linalg.norm(grown[:-1], axis=2) / np.linalg.norm(decayed[:-1], axis=2)
    np.testing.assert_allclose(np.log(ratio[:, 0]), schedule.log_scale, atol=1e-11)
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(GROUPS, 1), rtol=1e-11)
    # The decayed run went somewhere, and the drops matter: without them it goes elsewhere.
    assert angles_between(decayed[0], decayed[-1]).min() > 0.5
    elsewhere = heavy_ball(problem, np.full(STEPS, 0.1), decay, 0.9)
    assert angles_between(decayed[-1], elsewhere[-1]).max() > 1e-2


def test_any_rates_and_decays_are_replaced(problem) -> None:
    rng = np.random.default_rng(0)
    steps = 500
    lrs, decay = rng.uniform(0.02, 0.1, steps), rng.uniform(0.0, 5e-3, steps)
    schedule = theory.exponential_schedule(lrs, decay, momentum=0.5)
    decayed = heavy_ball(problem, lrs, decay, 0.5)
    grown = heavy_ball(problem, schedule.lrs, np.zeros(steps), 0.5)
    assert angles_between(decayed, grown).max() < 1e-12


def test_recentring_changes_the_weights_by_powers_of_two_and_nothing_else(problem) -> None:
    decay = np.full(STEPS, 0.02)
    schedule = theory.exponential_schedule(DROPS, decay, momentum=0.9)
    tame = schedule.recentred(largest=64.0)
    assert theory.exponential_schedule(DROPS, decay, 0.9).recentred(largest=2.0).factors.size > 5
    assert len(tame.factors) >= 2
    events = dict(zip(tame.steps.tolist(), tame.factors.tolist(), strict=True))
    grown = heavy_ball(problem, schedule.lrs, np.zeros(STEPS), 0.9)
    calm = heavy_ball(problem, tame.lrs, np.zeros(STEPS), 0.9, events=events)
    assert angles_between(grown, calm).max() < 1e-12
    assert np.linalg.norm(calm, axis=2).max() < 64.0 * 2.0 * np.linalg.norm(calm[0], axis=1).max()
    assert set(np.log2(tame.factors) % 1.0) == {0.0}


def test_the_geometric_schedule_is_exact_from_the_buffer_it_asks_for(problem) -> None:
    lr, decay, momentum, steps = 0.1, 5e-3, 0.8, 600
    z = float(theory.growth_root(lr, decay, momentum))
    schedule = theory.fixed_exponential_schedule(lr, decay, momentum, steps)
    zeros, constant = np.zeros(steps), np.full(steps, lr)
    decayed = heavy_ball(problem, constant, np.full(steps, decay), momentum)
    buffer = -(1.0 - z) / (z * lr) * problem.start
    grown = heavy_ball(problem, schedule.lrs, zeros, momentum, buffer=buffer)
    assert angles_between(decayed, grown).max() < 1e-12
    # From an empty buffer, or with the rate as printed (z^{-2} more), it is not.
    assert angles_between(decayed, heavy_ball(problem, schedule.lrs, zeros, momentum)).max() > 1e-4
    printed = heavy_ball(problem, schedule.lrs / z**2, zeros, momentum, buffer=buffer)
    assert angles_between(decayed, printed).max() > 1e-4


def test_without_decay_nothing_changes() -> None:
    schedule = theory.exponential_schedule(DROPS, 0.0, momentum=0.9)
    np.testing.assert_array_equal(schedule.log_scale, 0.0)
    np.testing.assert_allclose(schedule.lrs, DROPS, rtol=1e-15)


def test_without_momentum_the_scale_is_the_product_of_the_decays() -> None:
    rng = np.random.default_rng(1)
    lrs, decays = rng.uniform(0.01, 1.0, 200), rng.uniform(0.0, 0.5, 200)
    schedule = theory.exponential_schedule(lrs, decays, momentum=0.0)
    kept = np.cumsum(np.log1p(-lrs * decays))
    np.testing.assert_allclose(schedule.log_scale[1:], -kept[:-1], rtol=1e-13)


# Precision and range


def exact_log_scale(lr: float, decay: float, momentum: float, steps: int) -> mpmath.mpf:
    """By the roots, in the digits of the surrounding context."""
    x, g = mpmath.mpf(lr) * mpmath.mpf(decay), mpmath.mpf(momentum)
    middle = 1 + g - x
    spread = mpmath.sqrt(middle**2 - 4 * g)
    z1, z2 = (middle + spread) / 2, (middle - spread) / 2
    product = (z1 * (1 - z2) * z1**steps - z2 * (1 - z1) * z2**steps) / (z1 - z2)
    return -mpmath.log(product)


def test_a_million_steps_keep_their_digits() -> None:
    schedule = theory.exponential_schedule(np.full(1_000_000, 0.1), 5e-4, momentum=0.9)
    with mpmath.workdps(40):
        expected = exact_log_scale(0.1, 5e-4, 0.9, 1_000_000)
        assert abs(schedule.final_log_scale / expected - 1) < 4e-15
    assert schedule.log_lrs[-1] > 1000.0  # e^1000: far beyond float64
    with pytest.raises(OutOfDomain, match=r"from step 70\d{4} on .* \.recentred\(\)"):
        _ = schedule.lrs
    tame = schedule.recentred()
    assert np.isfinite(tame.lrs).all()
    offsets = np.zeros(tame.lrs.size)
    for step, factor in zip(tame.steps, tame.factors, strict=True):
        offsets[step:] -= math.log(factor)
    np.testing.assert_allclose(np.log(tame.lrs) + 2 * offsets, schedule.log_lrs, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    momentum=st.floats(0.0, 0.995),
    share=st.floats(1e-6, 0.98),
    lr=st.floats(1e-3, 10.0),
    steps=st.integers(1, 300),
)
def test_recursion_and_roots_agree_in_fifty_digits(momentum, share, lr, steps) -> None:
    decay = share * (1.0 - math.sqrt(momentum)) ** 2 / lr
    recursion = theory.exponential_schedule(np.full(steps, lr), decay, momentum).final_log_scale
    closed = theory.exponential_log_scale(lr, decay, momentum, steps)
    z = theory.growth_root(lr, decay, momentum)
    with mpmath.workdps(50):
        expected = exact_log_scale(lr, decay, momentum, steps)
        assert abs(recursion / expected - 1) < 1e-11
        assert abs(closed / expected - 1) < 1e-11
        x = mpmath.mpf(lr) * mpmath.mpf(decay)
        middle = 1 + mpmath.mpf(momentum) - x
        root = (middle + mpmath.sqrt(middle**2 - 4 * mpmath.mpf(momentum))) / 2
        assert abs(z / root - 1) < 1e-13


def test_the_growth_of_figure_1_and_its_leading_order() -> None:
    assert theory.growth_rate(0.1, 5e-4, 0.9, steps=391) == pytest.approx(1.481, abs=5e-4)
    x = np.logspace(-7, -4, 7)
    exact = theory.log_growth_rate(1.0, x, 0.9)
    gap = exact / np.log(theory.growth_rate_approx(1.0, x, 0.9)) - 1.0
    assert np.polyfit(np.log(x), np.log(gap), 1)[0] == pytest.approx(1.0, abs=0.02)
    assert np.polyfit(np.log(x), np.log(exact), 1)[0] == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("largest", [0.2, 1e3, FLOAT32_MAX])
def test_overflow_comes_at_the_step_the_schedule_says(momentum: float, largest: float) -> None:
    lr, decay = 0.1, 5e-3
    step = theory.steps_to_overflow(lr, decay, momentum, largest)
    logs = theory.exponential_schedule(np.full(step + 1, lr), decay, momentum).log_lrs
    assert logs[step] > math.log(largest) >= logs[step - 1]
    if largest > 1e30:
        about = theory.steps_to_overflow_approx(lr, decay, momentum, largest)
        assert step == pytest.approx(about, rel=0.06)


# The tapered schedule of theorems 2.4 and 2.7


def growth_gap(schedule: theory.ExponentialSchedule) -> np.ndarray:
    """|η̂_{t-1}/η̂_t - η̃_{t-1}/η̃_t| against the exact schedule, for t = 1, 2, ..."""
    exact = theory.exponential_schedule(DROPS, 5e-4, momentum=0.9)
    return np.abs(np.exp(-np.diff(exact.log_lrs)) - np.exp(-np.diff(schedule.log_lrs)))


def test_the_bound_of_theorem_2_7_holds_in_every_stage() -> None:
    gap = growth_gap(theory.tapered_exponential_schedule(DROPS, 5e-4, momentum=0.9))
    late = growth_gap(theory.tapered_exponential_schedule(DROPS, 5e-4, momentum=0.9, printed=True))
    for start, stop in [(0, 600), (600, 1300), (1300, 1800)]:
        t = np.arange(start + 1, stop)
        bound = theory.tapered_exponential_bound(0.1, 5e-4, 0.9, t - start)
        assert (gap[t - 1] <= bound + 1e-14).all()
        if start:  # the drop one step late, as printed, breaks it at once
            assert late[start] > bound[0]


def test_the_correction_dies_out_at_the_rate_of_the_smaller_root() -> None:
    gap = growth_gap(theory.tapered_exponential_schedule(DROPS, 5e-4, momentum=0.9))
    t = np.arange(610, 700)
    slope = np.polyfit(t, np.log(gap[t - 1]), 1)[0]
    z = theory.growth_root(0.01, 5e-4, 0.9)
    assert slope == pytest.approx(math.log(0.9 / z**2), rel=0.01)


def test_version_two_is_a_constant_rate_with_the_decay_lowered() -> None:
    second = theory.tapered_exponential_schedule(DROPS, 5e-4, momentum=0.9, instant_drop=False)
    constant = theory.tapered_exponential_schedule(
        np.full(STEPS, 0.1), 5e-4 * DROPS / 0.1, momentum=0.9
    )
    np.testing.assert_allclose(second.log_lrs, constant.log_lrs, rtol=1e-12)
    drop = np.diff(second.log_lrs)[599]
    assert 0.0 < drop < 2e-3


def test_a_cosine_is_replaced_too(problem) -> None:
    epoch = np.arange(STEPS) // 60
    lrs = 0.1 * (1.0 + np.cos(np.pi * epoch / 30)) / 2.0  # eq. 8, one value an epoch
    decay = np.full(STEPS, 5e-3)
    schedule = theory.exponential_schedule(lrs, decay, momentum=0.9)
    decayed = heavy_ball(problem, lrs, decay, 0.9)
    grown = heavy_ball(problem, schedule.lrs, np.zeros(STEPS), 0.9)
    assert angles_between(decayed, grown).max() < 1e-12


# Bad input


def test_where_the_scale_would_turn_negative_the_step_and_the_condition_are_named() -> None:
    with pytest.raises(OutOfDomain, match=r"α_t must be > 0.*α_\d+ = -.*2\.513e-05.*Lower"):
        theory.exponential_schedule(np.full(5000, 0.1), 5e-4, momentum=0.99)
    rates, decays = np.repeat([1e-4, 1.0], 50), np.repeat([1.0, 1e-4], 50)
    with pytest.raises(OutOfDomain, match=r"after step 50, .*after lr=0\.0001.*rises too steeply"):
        theory.exponential_schedule(rates, decays, momentum=0.9)


def test_the_condition_named_is_the_one_that_decides() -> None:
    limit = (1.0 - math.sqrt(0.9)) ** 2
    theory.exponential_schedule(np.full(20_000, 1.0), limit * 0.999, momentum=0.9)
    with pytest.raises(OutOfDomain):
        theory.exponential_schedule(np.full(20_000, 1.0), limit * 1.001, momentum=0.9)


@pytest.mark.parametrize(
    ("arguments", "error", "found"),
    [
        (([], 0.1, 0.9), InvalidArgument, r"shape \(0,\)"),
        (([0.1, 0.1], [0.1] * 3, 0.9), InvalidArgument, r"shape \(2,\), got \(3,\)"),
        (([0.1, 0.0], 0.1, 0.9), OutOfDomain, "got 0.0 at index 1. A step of rate 0"),
        (([0.1, math.nan], 0.1, 0.9), OutOfDomain, "lrs.*got nan at index 1"),
        (([0.1], -0.1, 0.9), OutOfDomain, "weight_decays.*got -0.1"),
        (([0.1], 0.1, 1.0), OutOfDomain, r"momentum=.*>= 0 and < 1, got 1"),
    ],
)
@pytest.mark.parametrize(
    "function", [theory.exponential_schedule, theory.tapered_exponential_schedule]
)
def test_bad_schedules(function, arguments, error, found: str) -> None:
    with pytest.raises(error, match=found):
        function(*arguments)


def test_bad_growth() -> None:
    with pytest.raises(OutOfDomain, match=r"momentum\)² = 2\.513e-05, got 5e-05"):
        theory.growth_root(0.1, 5e-4, 0.99)
    with pytest.raises(OutOfDomain, match=r"momentum=\.\.\.\) must be finite, >= 0 and < 1, got 1"):
        theory.growth_rate(0.1, 5e-4, [0.9, 1.0])
    with pytest.raises(OutOfDomain, match=r"lr=.*got nan"):
        theory.log_growth_rate(math.nan, 5e-4, 0.9)
    with pytest.raises(OutOfDomain, match="grows only if"):
        theory.steps_to_overflow(0.1, 0.0, 0.9)
    with pytest.raises(OutOfDomain, match=r"finite and > 0\.1, got 0\.05"):
        theory.steps_to_overflow(0.1, 5e-4, 0.9, largest=0.05)
    with pytest.raises(OutOfDomain, match="must be finite and >= 1, got 0"):
        theory.tapered_exponential_bound(0.1, 5e-4, 0.9, 0)
    with pytest.raises(InvalidArgument, match="int >= 1, got 0"):
        theory.fixed_exponential_schedule(0.1, 5e-4, 0.9, 0)
    with pytest.raises(OutOfDomain, match="no logarithm"):
        theory.fixed_exponential_schedule(0.0, 5e-4, 0.9, 5)
    with pytest.raises(OutOfDomain, match=r"finite and >= 2, got 1"):
        theory.exponential_schedule([0.1], 5e-4, 0.9).recentred(largest=1.0)
