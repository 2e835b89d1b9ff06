"""The step on the sphere, its closed forms, and the radius that carries them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import walk
from scipy.integrate import solve_ivp

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters


def step_of(seed: int, scale: float = 1.0, d: int = 12):
    rng = np.random.default_rng(seed)
    x, a = rng.standard_normal((2, 5, d))
    b = rng.uniform(0.5, 2.0, (5, d))
    return 3.0 * x, scale * a, b


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-6, 1.0))
def test_image_step_is_the_step_itself_seen_on_the_sphere(seed: int, scale: float) -> None:
    x, a, b = step_of(seed, scale)
    after = x - 0.7 * a / b
    image = theory.image_step(x, a, lr=0.7, divisor=b)
    r, r_after = np.linalg.norm(x, axis=1), np.linalg.norm(after, axis=1)
    assert image.h1.all()
    np.testing.assert_allclose(image.after, after / r_after[:, None], atol=1e-12)
    np.testing.assert_allclose(image.radius_ratio, r_after / r, rtol=1e-12)
    np.testing.assert_allclose(np.sum(image.direction * x, axis=1), 0.0, atol=1e-9)
    # ... and agrees with what the recorded products say of it.
    d, none = after - x, np.zeros(5)
    dot = lambda p, q: np.sum(p * q, axis=1)  # noqa: E731
    gram = Gram(dot(x, x), dot(x, d), dot(d, d), none, none, none)
    np.testing.assert_allclose(image.angle, sphere.angle(gram), rtol=1e-6)
    np.testing.assert_allclose(image.radial, -sphere.radial_step(gram), rtol=1e-9, atol=1e-15)
    ratio = theory.radius_ratio_on_sphere(image.radial, np.tan(image.angle))
    np.testing.assert_allclose(ratio, image.radius_ratio, rtol=1e-12)


def test_hypotheses_are_told_where_they_fail() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    across = theory.image_step(x, [[2.0, 1.0], [0.0, 4.0]], lr=1.0)
    np.testing.assert_array_equal(across.h1, [False, True])
    np.testing.assert_array_equal(across.h2, [True, False])
    with pytest.raises(OutOfDomain, match=r"\|x\|"):
        theory.image_step([0.0, 0.0], [1.0, 0.0], lr=1.0)


def test_the_exponential_map_is_met_to_third_order() -> None:
    x, a, b = step_of(0)
    gaps, sizes = [], np.logspace(-3, -1, 5)
    for lr in sizes:
        image = theory.image_step(x, a, lr=lr, divisor=b)
        velocity = image.effective_lr * np.linalg.norm(image.direction, axis=1)
        gaps.append(np.abs(velocity - image.angle).max())
    assert np.polyfit(np.log(sizes), np.log(gaps), 1)[0] == pytest.approx(3.0, abs=0.05)


def test_table_of_effective_rates_equals_the_generic_scheme() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(20)
    g = rng.standard_normal(20)
    g -= (g @ x) / (x @ x) * x
    r = float(np.linalg.norm(x))
    for decay in (0.0, 0.5):
        hp = HyperParameters("sgd", lr=0.3, weight_decay=decay)
        image = theory.image_step(x, g + decay * x, lr=0.3)
        found = theory.effective_learning_rate(hp, r)
        assert isinstance(found, float)
        assert found == pytest.approx(float(image.effective_lr), rel=1e-12)
        np.testing.assert_allclose(image.direction, r * g, atol=1e-12)
    v = rng.standard_normal(20)
    image = theory.image_step(x, v, lr=0.3)
    heavy = HyperParameters("sgd", lr=0.3, momentum=0.9)
    found = theory.effective_learning_rate(heavy, r, radial=float(image.radial))
    assert found == pytest.approx(float(image.effective_lr), rel=1e-12)
    with pytest.raises(InvalidArgument, match="radial"):
        theory.effective_learning_rate(heavy, r)
    with pytest.raises(OutOfDomain, match="1 - A<c, u>"):
        theory.effective_learning_rate(heavy, r, radial=1.0)
    with pytest.raises(NoTheory, match="AdamW"):
        theory.effective_learning_rate(HyperParameters("adamw", lr=0.1), r, radial=0.0)


def test_moment_on_the_sphere_is_that_of_adam_itself() -> None:
    hp = HyperParameters("adam", lr=0.01, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6)
    rng = np.random.default_rng(0)
    x, m, s = rng.standard_normal(30), np.zeros(30), np.zeros(30)
    norms, squares, moments, rates, angles = [], [], [], [], []
    for t in range(1, 60):
        g = rng.standard_normal(30)
        g -= (g @ x) / (x @ x) * x
        g /= np.linalg.norm(x)
        pull = g + 0.1 * x
        m, s = 0.8 * m + 0.2 * pull, 0.95 * s + 0.05 * pull**2
        b = (1 - 0.8**t) / 0.2 * np.sqrt(s / (1 - 0.95**t) + 1e-6)
        image = theory.image_step(x, m / 0.2, lr=0.01, divisor=b)
        r = np.linalg.norm(x)
        norms.append(r)
        squares.append((g @ g) * r**2)
        moments.append(image.moment)
        rates.append(
            theory.effective_learning_rate(
                hp, r, radial=float(image.radial), moment=float(image.moment)
            )
            / image.effective_lr
        )
        after = x - 0.01 * (m / 0.2) / b
        angles.append(image.after @ after / np.linalg.norm(after))
        x = after
    found = theory.adam_moment_on_sphere(hp, norms, squares, numel=30)
    np.testing.assert_allclose(found, moments, rtol=1e-12)
    np.testing.assert_allclose(rates, 1.0, rtol=1e-12)
    np.testing.assert_allclose(angles, 1.0, rtol=1e-12)
    pair = theory.adam_moment_on_sphere(hp, np.c_[norms, norms], np.c_[squares, squares], 30)
    np.testing.assert_array_equal(pair[:, 1], found)
    with pytest.raises(InvalidArgument, match="Adam with L2"):
        theory.adam_moment_on_sphere(HyperParameters("sgd", lr=0.1), norms, squares, 30)


# The radius


def schedule(steps: int) -> tuple[np.ndarray, np.ndarray]:
    t = np.arange(steps)
    return 0.1 * (1.1 + np.cos(t / 50)), 0.02 * (t > 100)


def test_effective_rate_recursion_is_exact_on_any_schedule() -> None:
    lr, decay = schedule(400)
    plan = [HyperParameters("sgd", lr=a, weight_decay=b) for a, b in zip(lr, decay, strict=True)]
    gram = walk(plan, 400, norm0=2.0, dimension=40, scales=np.ones(40)).gram()
    grad_sq = gram.ww * gram.gg
    found = theory.effective_rate_recursion(lr, decay, grad_sq, norm0=2.0)
    np.testing.assert_allclose(found, sphere.effective_lr_l2(gram, lr, decay), rtol=1e-11)
    np.testing.assert_allclose(np.arctan(found * np.sqrt(grad_sq)), sphere.angle(gram), rtol=1e-10)
    squares = theory.radius_sq_after(gram.ww, lr, grad_sq, decay)
    np.testing.assert_allclose(squares[:-1], gram.ww[1:], rtol=1e-12)


def test_effective_rate_comes_to_rest_where_the_angle_does() -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.5)
    rates = theory.effective_rate_recursion(np.full(2000, 0.1), np.full(2000, 0.5), 4.0, norm0=0.3)
    assert math.atan(2.0 * rates[-1]) == pytest.approx(theory.equilibrium_angle(hp), rel=1e-12)


def test_flow_solves_its_equation_and_is_the_inverse_root_of_gamma() -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.01)
    solved = solve_ivp(
        lambda t, y: 2 * 1e-3 * y - 7.0 * y**3, (0, 900), [2e-3], rtol=1e-10, atol=1e-14
    )
    found = theory.effective_rate_flow(hp, 2e-3, solved.t, unit_grad_sq=7.0)
    np.testing.assert_allclose(found, solved.y[0], rtol=1e-7)
    gamma = theory.sde_gamma(hp, 2e-3**-2, solved.t, noise_trace=7.0)
    np.testing.assert_allclose(found, gamma**-0.5, rtol=1e-12)


def test_flow_is_the_limit_of_the_recursion() -> None:
    gaps, sizes = [], np.array([4e-3, 2e-3, 1e-3, 5e-4])
    for a in sizes:
        steps = round(1.0 / a)
        hp = HyperParameters("sgd", lr=1.0, weight_decay=a)
        rates = theory.effective_rate_recursion(np.ones(steps), np.full(steps, a), a, norm0=1.0)
        flow = theory.effective_rate_flow(hp, rates[0], steps - 1, unit_grad_sq=a)
        gaps.append(abs(flow / rates[-1] - 1))
    assert np.polyfit(np.log(sizes), np.log(gaps), 1)[0] == pytest.approx(1.0, abs=0.05)


def test_taylor_solution_of_the_radius_is_off_by_the_square_of_its_variable() -> None:
    gaps, sizes = [], np.array([1e-1, 5e-2, 2.5e-2])
    for lr in sizes:
        steps = round(1.0 / lr**2)
        square = 1.0
        for _ in range(steps):
            square = theory.radius_sq_after(square, lr, 1.0)
        gaps.append(abs(theory.radius_sq_by_taylor(lr, np.ones(steps), 1.0)[-1] / square - 1))
    assert np.polyfit(np.log(sizes), np.log(gaps), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_both_taylor_variables_are_those_of_the_records() -> None:
    gram = walk(HyperParameters("sgd", lr=0.1), 20, norm0=3.0, dimension=20).gram()
    printed, expanded = theory.taylor_variables(0.1, gram.ww * gram.gg, sphere.norm(gram))
    np.testing.assert_allclose(printed, sphere.taylor_variable(gram, 0.1), rtol=1e-12)
    np.testing.assert_allclose(expanded, sphere.taylor_variable_remainder(gram, 0.1), rtol=1e-12)
    np.testing.assert_allclose(expanded, np.tan(sphere.angle(gram)) ** 2, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: theory.effective_rate_recursion([0.1], [10.0], 1.0, 1.0), "1 - lr × weight_decay"),
        (lambda: theory.effective_rate_recursion([0.1, 0.0], [1.0, 1.0], 1.0, 1.0), "lr=.*index 1"),
        (lambda: theory.effective_rate_recursion([0.1], [1.0], -1.0, 1.0), "unit_grad_sq"),
        (lambda: theory.radius_sq_by_taylor(0.1, [math.nan], 1.0), "unit_grad_sq"),
        (lambda: theory.radius_sq_after(0.0, 0.1, 1.0), "radius_sq"),
        (lambda: theory.taylor_variables(0.1, 1.0, -1.0), "norm"),
    ],
)
def test_bad_radii_are_named(call, found: str) -> None:
    with pytest.raises(OutOfDomain, match=found):
        call()
