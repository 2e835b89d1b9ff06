from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from spherical_motion import simulate, theory
from spherical_motion.errors import OutOfDomain
from spherical_motion.theory.published.toy import CURVATURE


def half_normal(function) -> float:
    """E[f(|z|)], by adaptive quadrature in many digits."""
    with mpmath.workdps(30):
        density = lambda z: mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-z * z / 2)  # noqa: E731
        return float(mpmath.quad(lambda z: density(z) * function(z), [0, 1, 4, 12]))


def logistic(z):
    return 1 / (1 + mpmath.exp(-z))


# The constants


def test_the_curvature_is_the_density_of_a_normal_at_zero() -> None:
    expected = half_normal(lambda z: logistic(z) * logistic(-z) + z * logistic(-z))
    assert pytest.approx(expected, rel=1e-13) == CURVATURE


def test_the_unit_gradient_is_that_of_many_inputs() -> None:
    assert theory.toy_unit_grad_sq(2) == pytest.approx(
        half_normal(lambda z: logistic(-z) ** 2), rel=1e-12
    )
    x = np.random.default_rng(0).standard_normal((400_000, 5))
    pull = np.sum(x[:, 1:] ** 2, axis=1) / (1.0 + np.exp(np.abs(x[:, 0]))) ** 2
    error = pull.std() / math.sqrt(pull.size)
    assert theory.toy_unit_grad_sq(5) == pytest.approx(pull.mean(), abs=4 * error)


@pytest.mark.parametrize("weight_decay", [1e-8, 1e-4, 0.01, 1.0, 100.0])
def test_the_decayed_norm_solves_its_equation(weight_decay: float) -> None:
    c = theory.toy_decayed_norm(weight_decay)
    pull = half_normal(lambda z: z * logistic(-c * z)) if c < 5 else None
    if pull is None:  # most of it within 1/c of zero
        with mpmath.workdps(30):
            density = lambda z: mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-z * z / 2)  # noqa: E731
            points = [0, 5 / c, 60 / c]
            pull = float(mpmath.quad(lambda z: density(z) * z * logistic(-c * z), points))
    assert weight_decay * c == pytest.approx(pull, rel=1e-10)


def test_little_decay_lets_the_norm_grow_as_its_inverse_cube_root() -> None:
    decays = np.logspace(-10, -7, 7)
    norms = [theory.toy_decayed_norm(x) for x in decays]
    assert np.polyfit(np.log(decays), np.log(norms), 1)[0] == pytest.approx(-1 / 3, abs=1e-3)


# The three cases


def root_mean_square(angle: np.ndarray) -> float:
    return math.sqrt(np.mean(angle**2))


def test_decay_alone_comes_as_close_as_the_learning_rate_is_small() -> None:
    rest = theory.toy_decayed_norm(0.02)
    floors = []
    for lr in (0.2, 0.05):
        run = simulate.toy_classifier(
            normalized=False,
            lr=lr,
            weight_decay=0.02,
            dimension=8,
            steps=round(300 / lr),
            norm0=rest,
            angle0=0.3,
            replicas=40,
            every=10,
        )
        settled = run.step > 100 / lr
        floors.append(root_mean_square(run.angle[settled]))
    # θ² ∝ η, to 10% over 40 runs, and so to zero.
    assert floors[0] / floors[1] == pytest.approx(2.0, rel=0.1)
    assert math.sqrt(np.mean(run.norm_sq[settled])) == pytest.approx(rest, rel=0.02)


def test_normalization_alone_goes_on_improving_whatever_the_learning_rate() -> None:
    for lr in (0.3, 1.0):
        run = simulate.toy_classifier(
            normalized=True,
            lr=lr,
            weight_decay=0.0,
            dimension=10,
            steps=8000,
            replicas=100,
            every=500,
            seed=1,
        )
        for row in (4, 16):
            expected = theory.toy_normalized_angle(10, run.step[row])
            # 9 directions in 100 runs: θ² within 5% (1σ), its root 2.4%.
            assert root_mean_square(run.angle[row]) == pytest.approx(expected, rel=0.1)
        growth = np.mean(run.norm_sq[-1] ** 2) / (2 * lr**2 * theory.toy_unit_grad_sq(10) * 8000)
        assert growth == pytest.approx(1.0, abs=0.05)


def test_both_together_come_to_rest_short_of_it() -> None:
    measured, rates = [], []
    for decay in (1e-2, 1e-3, 1e-4):
        rest = (theory.toy_unit_grad_sq(10) * 0.1 / (2 * decay)) ** 0.25
        run = simulate.toy_classifier(
            normalized=True,
            lr=0.1,
            weight_decay=decay,
            dimension=10,
            steps=2500,
            norm0=rest,
            angle0=float(theory.toy_resting_angle(0.1, decay, 10)),
            replicas=150,
            every=25,
        )
        measured.append(root_mean_square(run.angle[20:]))
        rates.append(0.1 * decay)
        # Leading order in η_eH, which is 0.02 to 0.2 here.
        assert measured[-1] == pytest.approx(theory.toy_resting_angle(0.1, decay, 10), rel=0.05)
    slope = np.polyfit(np.log(rates), np.log(measured), 1)[0]
    assert slope == pytest.approx(0.25, abs=0.02)


# Theorem 3.1


@pytest.mark.parametrize(("angle", "norm"), [(0.02, 1.0), (0.05, 3.0), (0.069, 0.3)])
def test_every_escape_comes_within_the_bound(angle: float, norm: float) -> None:
    lr, decay, dimension, failure = 0.1, 0.1, 10, 0.01
    bound = theory.escape_bound(
        lr, decay, norm=norm, dimension=dimension, angle=angle, failure=failure
    )
    run = simulate.toy_classifier(
        normalized=True,
        lr=lr,
        weight_decay=decay,
        dimension=dimension,
        steps=math.ceil(min(bound, 1500)),
        norm0=norm,
        angle0=0.0,
        beyond=angle,
        every=1000,
        replicas=200,
    )
    assert np.mean(run.escape <= bound) >= 1.0 - failure


def test_the_bound_is_generous_but_not_for_any_norm() -> None:
    # A heavy start is held for a while: escapes come later with the logarithm of |w|², as bounded.
    medians = []
    for norm in (3.0, 30.0, 300.0):
        run = simulate.toy_classifier(
            normalized=True,
            lr=0.5,
            weight_decay=0.2,
            dimension=10,
            steps=200,
            norm0=norm,
            angle0=0.0,
            beyond=0.1,
            every=1000,
            replicas=60,
        )
        assert np.isfinite(run.escape).all()
        medians.append(np.median(run.escape))
    waits = np.diff(medians)
    # Held, |w| shrinks by 1 - ηλ a step.
    assert waits == pytest.approx([math.log(10) / -math.log1p(-0.1)] * 2, rel=0.1)


def test_the_bound_needs_a_cone_that_decay_can_empty() -> None:
    with pytest.raises(OutOfDomain, match=r"\(0, 0\.07071\), got 0\.08: in a wider cone"):
        theory.escape_bound(0.1, 0.1, norm=1.0, dimension=10, angle=0.08, failure=0.1)
    with pytest.raises(OutOfDomain, match=r"failure=.*got 1"):
        theory.escape_bound(0.1, 0.1, norm=1.0, dimension=10, angle=0.01, failure=1.0)
    with pytest.raises(OutOfDomain, match=r"norm=.*got nan"):
        theory.escape_bound(0.1, 0.1, norm=math.nan, dimension=10, angle=0.01, failure=0.1)
    with pytest.raises(OutOfDomain, match=">= 2, got 1"):
        theory.toy_unit_grad_sq(1)
    with pytest.raises(OutOfDomain, match="finite and > 0, got 0"):
        theory.toy_decayed_norm(0.0)


# Corollary 2.2


@pytest.mark.parametrize(("decay", "momentum"), [(0.01, 0.0), (0.01, 0.5), (1e-3, 0.9)])
def test_a_well_narrower_than_the_step_holds_nothing(decay: float, momentum: float) -> None:
    narrowest = theory.narrowest_well(0.1, decay, momentum)
    wells = np.multiply.outer(narrowest * np.array([0.3, 0.7, 0.99]), np.ones(30))
    run = simulate.narrow_well(
        wells, lr=0.1, weight_decay=decay, momentum=momentum, noise=0.02, steps=4000
    )
    assert np.isfinite(run.escape).all()
    # Without decay the same wells hold: it is decay that throws out.
    held = simulate.narrow_well(
        wells[0], lr=0.1, weight_decay=0.0, momentum=momentum, noise=1e-4, steps=4000
    )
    assert np.isinf(held.escape).all()
    decayed = simulate.narrow_well(
        wells[0], lr=0.1, weight_decay=decay, momentum=momentum, noise=1e-4, steps=12_000
    )
    assert np.isfinite(decayed.escape).all()


def test_a_wide_well_holds() -> None:
    narrowest = theory.narrowest_well(0.1, 0.01)
    wells = np.full(30, 20.0 * narrowest)
    run = simulate.narrow_well(wells, lr=0.1, weight_decay=0.01, noise=0.1, steps=4000)
    assert np.isinf(run.escape).all()
    assert (run.widest > narrowest).all()


def test_bad_wells() -> None:
    with pytest.raises(OutOfDomain, match=r"momentum=\.\.\.\) must be finite, >= 0 and < 1, got 1"):
        theory.narrowest_well(0.1, 0.1, 1.0)
    with pytest.raises(OutOfDomain, match=r"weight_decay=.*got 0"):
        theory.narrowest_well(0.1, 0.0)
