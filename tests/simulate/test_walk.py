from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from simulated import constant, simulate_adamw, simulate_sgd

from spherical_motion import simulate, sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters

SETTLED: dict[str, Any] = {"shape": (200,), "replicas": 4, "steps": 1500, "burn_in": 1000}


def sgd(lr: float, weight_decay: float, momentum: float = 0.0, **kwargs: Any) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum, **kwargs)


def adaptive(name: str, lr: float, weight_decay: float, betas) -> HyperParameters:
    return HyperParameters(name, lr=lr, weight_decay=weight_decay, betas=betas)


def step_ratio(gram: Gram) -> float:
    return math.sqrt(gram.dd.mean() / gram.ww.mean())


# The gradient is what it is said to be


def test_gradients_are_orthogonal_and_of_the_size_asked_for() -> None:
    walk = simulate.random_walk(sgd(0.1, 0.01, 0.9), steps=300, unit_grad_norm=3.0)
    assert sphere.defect(walk.gram).max() < 1e-14
    np.testing.assert_allclose(sphere.unit_gradient_norm(walk.gram), 3.0, rtol=1e-12)


def test_sizes_vary_as_asked() -> None:
    walk = simulate.random_walk(
        sgd(0.1, 0.01), steps=4000, replicas=5, unit_grad_norm=2.0, variation=0.5
    )
    sizes = sphere.unit_gradient_norm(walk.gram)
    # 20,000 draws: the mean within 0.35% (1σ), the variation within about 1%.
    assert sizes.mean() == pytest.approx(2.0, rel=0.015)
    assert sizes.std() / sizes.mean() == pytest.approx(0.5, rel=0.04)


def test_a_radial_part_lies_along_the_weights_and_may_depend_on_the_norm() -> None:
    told = {"steps": 50, "replicas": 3, "norm0": 2.0}
    walk = simulate.random_walk(sgd(0.1, 0.01, 0.9), radial=0.03, **told)
    np.testing.assert_allclose(walk.gram.wg / walk.gram.ww, 0.03, rtol=1e-9)
    walk = simulate.random_walk(sgd(0.1, 0.01), radial=lambda norm: -0.1 / norm**2, **told)
    np.testing.assert_allclose(walk.gram.wg, -0.1, rtol=1e-9)


def test_random_parts_are_correlated_as_asked() -> None:
    # The step of plain SGD is its gradient, so that its updates have the gradient's correlation.
    hp = sgd(1e-3, 0.0)
    for wanted in (0.0, 0.6):
        walk = simulate.random_walk(
            hp, steps=1500, shape=(300,), burn_in=40, lags=3, grad_correlation=wanted
        )
        np.testing.assert_allclose(walk.autocorrelation, wanted ** np.arange(1, 4), atol=0.01)


def test_products_of_the_metric_are_those_of_its_own_arrays() -> None:
    walk = simulate.random_walk(sgd(0.1, 0.02, 0.8), steps=30)
    np.testing.assert_allclose(walk.gram.wp, 0.02 * walk.gram.ww, rtol=1e-9)
    assert (walk.gram.ws == 0.0).all()
    for name in ("lion", "muon"):
        hp = HyperParameters(name, lr=0.01, momentum=0.9, beta2=0.99)
        walk = simulate.random_walk(hp, steps=3, shape=(5, 6))
        assert np.isnan(walk.gram.wp).all()
        assert np.isnan(walk.gram.ws).all()
    # Adam's first step has b = 0 before it, and P·x = sign(x)/(1 - β1).
    hp = adaptive("adamw", 0.01, 0.1, (0.9, 0.99))
    first = simulate.random_walk(hp, steps=1, shape=(40,), radial=0.5).gram
    assert first.ws[0, 0] == 0.0
    assert first.wp[0, 0] == pytest.approx(-first.wd[0, 0] / 0.01 / 0.1 - first.ww[0, 0], rel=1e-9)


def test_the_walk_obeys_the_law_of_motion() -> None:
    for hp in (sgd(0.1, 0.02, 0.8), sgd(0.1, 0.02)):
        gram = simulate.random_walk(hp, steps=200).gram
        ones = np.ones(gram.shape)
        residual = theory.law_of_motion_residual(
            hp,
            gram,
            steps=np.arange(200),
            lr=hp.lr * ones,
            weight_decay=hp.weight_decay * ones,
            momentum=hp.momentum * ones,
        )
        assert np.nanmax(residual) < 1e-10


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_steps_as_the_tests_own_simulation_does(nesterov: bool) -> None:
    # Different random numbers: the same means.
    hp = sgd(0.1, 0.02, 0.8, nesterov=nesterov)
    ours = simulate.random_walk(hp, steps=4000, burn_in=1000, shape=(60,)).gram
    settings = constant(0.1, 0.02, 0.8, 5000)
    theirs = Gram.from_array(simulate_sgd(settings, nesterov=nesterov)[1000:])
    assert step_ratio(ours) == pytest.approx(step_ratio(theirs), rel=5e-3)
    assert ours.ww.mean() == pytest.approx(theirs.ww.mean(), rel=0.02)


def test_adamw_steps_as_the_tests_own_simulation_does() -> None:
    hp = adaptive("adamw", 1e-2, 0.1, (0.9, 0.999))
    ours = simulate.random_walk(hp, steps=1500, shape=(400,), norm0=4.5).gram
    theirs = Gram.from_array(simulate_adamw(constant(1e-2, 0.1, 0.9, 1500), norm0=4.5))
    np.testing.assert_allclose(ours.ww[1000:].mean(), theirs.ww[1000:].mean(), rtol=0.01)
    np.testing.assert_allclose(ours.dd[1000:].mean(), theirs.dd[1000:].mean(), rtol=0.01)


# At rest, against theory, which knows nothing of it. Four copies of 1,500 steps: the angle's
# Monte-Carlo error is about 0.1%; what is left is the theory's, given per row.


@pytest.mark.parametrize(
    ("hp", "tolerance"),
    [
        (sgd(0.1, 0.1), 2e-3),
        (sgd(0.1, 0.1, 0.9), 2e-3),
        (sgd(0.1, 0.1, 0.9, nesterov=True), 2e-3),
        (sgd(0.1, 0.1, 0.5, nesterov=True), 2e-3),
        (sgd(0.1, 0.1, 0.9, decoupled=True), 4e-3),
        (sgd(0.1, 0.1, 0.9, dampening=0.9), 4e-3),
        (adaptive("adamw", 0.01, 0.5, (0.9, 0.999)), 5e-3),
        (adaptive("adamw", 0.01, 0.5, (0.5, 0.99)), 2e-2),
        (adaptive("lion", 0.01, 0.2, (0.9, 0.99)), 1e-2),
        (adaptive("lion", 0.01, 0.8, (0.9, 0.99)), 1e-2),
    ],
    ids=str,
)
def test_the_angle_at_rest_is_that_of_theory(hp: HyperParameters, tolerance: float) -> None:
    gram = simulate.random_walk(hp, **SETTLED).gram
    expected = theory.equilibrium_angle(hp, numel=200)
    assert sphere.angle(gram).mean() == pytest.approx(expected, rel=tolerance)
    assert step_ratio(gram) == pytest.approx(theory.equilibrium_step_ratio(hp), rel=tolerance)


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_adam_with_l2_rests_where_theory_says(spread: float) -> None:
    profile = np.exp(spread * np.random.default_rng(7).standard_normal(200))
    # E|g̃_i| ∝ profile, |g̃| = 1: each coordinate's RMS.
    sigma = float(np.mean(profile) / math.sqrt(np.sum(profile**2)))
    hp = HyperParameters("adam", lr=0.005, weight_decay=0.02, betas=(0.9, 0.999))
    rest = theory.equilibrium_norm(hp, numel=200, unit_grad_rms=sigma)
    gram = simulate.random_walk(
        hp, shape=(200,), replicas=4, steps=2500, burn_in=2000, norm0=rest, profile=profile
    ).gram
    angle = theory.equilibrium_angle(hp, numel=200, unit_grad_rms=sigma)
    tolerance = 0.05 if spread else 0.015
    assert sphere.norm(gram).mean() == pytest.approx(rest, rel=tolerance)
    assert sphere.angle(gram).mean() == pytest.approx(angle, rel=tolerance)


@pytest.mark.parametrize(
    ("hp", "shape", "lags"),
    [
        (sgd(0.1, 0.05, 0.8, decoupled=True), (200,), 60),
        (adaptive("adamw", 0.01, 0.5, (0.9, 0.999)), (200,), 80),
        (HyperParameters("muon", lr=0.01, weight_decay=0.3, momentum=0.8), (8, 12), 40),
        (
            HyperParameters("muon", lr=0.01, weight_decay=0.3, momentum=0.9, nesterov=True),
            (6, 6),
            60,
        ),
    ],
    ids=["sgd", "adamw", "muon", "muon-nesterov"],
)
def test_decoupled_decay_rests_where_the_memory_of_its_updates_says(hp, shape, lags) -> None:
    walk = simulate.random_walk(hp, shape=shape, replicas=3, steps=2000, burn_in=1000, lags=lags)
    correlation = 1.0 + 2.0 * walk.autocorrelation.sum()
    expected = math.sqrt(2.0 * hp.intrinsic_lr / correlation)
    # Leading order in the lags' length times ηλ, 0.2 to 0.3 at worst.
    assert step_ratio(walk.gram) == pytest.approx(expected, rel=0.04)
    norm_sq = hp.lr * walk.update_products[0] * correlation / (2.0 * hp.weight_decay)
    assert walk.gram.ww.mean() == pytest.approx(norm_sq, rel=0.08)


def test_updates_of_the_heavy_ball_remember_by_its_momentum() -> None:
    hp = sgd(0.1, 0.01, 0.8, decoupled=True)
    walk = simulate.random_walk(hp, shape=(400,), steps=3000, burn_in=200, lags=5, norm0=2.0)
    np.testing.assert_allclose(walk.autocorrelation, 0.8 ** np.arange(1, 6), atol=0.01)


def test_muons_update_is_a_polar_factor() -> None:
    hp = HyperParameters("muon", lr=0.01, weight_decay=0.1, momentum=0.9)
    walk = simulate.random_walk(hp, shape=(3, 5), steps=20)
    assert walk.autocorrelation.size == 0
    assert walk.update_products[0] == pytest.approx(3.0, rel=1e-12)  # three singular values of 1


def test_the_rms_law_holds_for_heavy_tails_and_the_mean_angle_does_not() -> None:
    hp = sgd(0.1, 0.02, 0.9)
    gram = simulate.random_walk(hp, variation=3.0, replicas=20, steps=2500, burn_in=1000).gram
    assert step_ratio(gram) == pytest.approx(theory.equilibrium_step_ratio(hp), rel=0.02)
    assert sphere.angle(gram).mean() < 0.85 * theory.equilibrium_angle(hp)


def test_repeatable_and_seeded() -> None:
    hp = sgd(0.1, 0.01, 0.9)
    a, b, c = (simulate.random_walk(hp, steps=10, seed=seed).gram.dd for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


# Bad input


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        ({"hp": HyperParameters("other", lr=0.1)}, NoTheory, "'other' is not simulated"),
        ({"hp": HyperParameters("adamw", lr=0.1)}, InvalidArgument, "adamw needs beta2"),
        ({"hp": HyperParameters("muon", lr=0.1)}, InvalidArgument, r"\(rows, columns\)"),
        ({"hp": sgd(0.0, 0.1)}, InvalidArgument, "lr > 0"),
        ({"steps": 0}, InvalidArgument, r"steps=\.\.\.\) must be an int >= 1, got 0"),
        ({"shape": (1,)}, InvalidArgument, "at least 2 entries"),
        ({"norm0": 0.0}, OutOfDomain, r"norm0=\.\.\.\) must be finite and > 0, got 0"),
        ({"grad_correlation": 1.0}, OutOfDomain, "grad_correlation=.*got 1"),
        ({"variation": -1.0}, OutOfDomain, "variation=.*got -1"),
        ({"lags": 5}, InvalidArgument, r"got burn_in=0\. Pass burn_in=5 or more"),
        ({"profile": [1.0, 2.0]}, InvalidArgument, r"shape \(100,\), got shape \(2,\)"),
    ],
)
def test_bad_input(change: dict, error, found: str) -> None:
    given = {"hp": sgd(0.1, 0.1), "steps": 10} | change
    with pytest.raises(error, match=found):
        simulate.random_walk(given.pop("hp"), **given)
