from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import constant, simulate_adamw, simulate_sgd

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters

SLOW = HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9)


def sgd(lr: float, weight_decay: float, momentum: float = 0.0) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum)


# Steps to equilibrium


def test_published_and_corrected_lower_bound() -> None:
    assert theory.steps_to_equilibrium(sgd(1e-3, 1e-4), lr_drop=10) == 5_756_463
    assert theory.steps_to_equilibrium(SLOW, lr_drop=10) == 575_647
    assert theory.steps_to_equilibrium(SLOW, lr_drop=10, within=0.05) == 1_105_636


@given(k=st.floats(1.1, 1e4))
def test_at_the_lower_bound_the_angle_is_short_of_its_target_by_a_known_factor(k: float) -> None:
    steps = math.log(k) / theory.relaxation_rate(SLOW)
    excess = theory.relaxed_excess(SLOW, k, steps)
    share = float(theory.angle_at_excess(SLOW, excess)) / theory.equilibrium_angle(SLOW)
    assert share == pytest.approx(math.sqrt(k / (2 * k - 1)), rel=1e-6)


@given(excess=st.floats(1e-3, 1e6).filter(lambda x: abs(x - 1) > 1e-3), within=st.floats(1e-4, 0.9))
def test_steps_to_within_bring_the_angle_just_there(excess: float, within: float) -> None:
    steps = theory.steps_to_within(SLOW, excess, within)
    after = theory.relaxed_excess(SLOW, excess, steps)
    distance = abs(float(after) ** -0.5 - 1)
    if steps > 0:
        assert distance == pytest.approx(within, rel=1e-6)
    else:
        assert distance <= within * (1 + 1e-9)


def test_time_scales_inversely_with_the_rate() -> None:
    rates = np.logspace(-4, -1, 7)
    steps = [theory.steps_to_equilibrium(sgd(lr, 1e-4), 10, within=0.01) for lr in rates]
    assert np.polyfit(np.log(rates), np.log(steps), 1)[0] == pytest.approx(-1.0, abs=1e-4)


def test_a_rise_needs_a_tolerance() -> None:
    with pytest.raises(OutOfDomain, match="After a rise"):
        theory.steps_to_equilibrium(SLOW, lr_drop=0.5)
    assert theory.steps_to_equilibrium(SLOW, lr_drop=0.5, within=0.05) > 0
    with pytest.raises(OutOfDomain, match=r"in \(0, 1\), got 1"):
        theory.steps_to_equilibrium(SLOW, lr_drop=10, within=1.0)
    with pytest.raises(OutOfDomain, match="must be > 0, got nan"):
        theory.steps_to_equilibrium(SLOW, lr_drop=math.nan)


# The driven norm


def drive(hp: HyperParameters, norm0, steps: int, value, **kwargs):
    ones = np.ones(steps)
    return theory.driven_norm(
        hp,
        norm0,
        lr=hp.lr * ones,
        weight_decay=hp.weight_decay * ones,
        momentum=hp.momentum * ones,
        drive=value,
        **kwargs,
    )


def test_driven_norm_follows_the_closed_form_for_a_constant_drive() -> None:
    hp, steps = sgd(0.1, 1e-3, 0.9), 5000
    norms = drive(hp, 2.0, steps, 7.0)
    rest = 7.0 * hp.lr / (2 * hp.weight_decay * (1 - hp.momentum))
    decay = np.exp(-theory.relaxation_rate(hp) * np.arange(steps + 1))
    np.testing.assert_allclose(norms**4, rest + (2.0**4 - rest) * decay, rtol=1e-10)


def test_driven_norm_does_not_overflow_over_many_relaxation_times() -> None:
    hp = sgd(0.5, 0.1)
    norms = drive(hp, 100.0, 50_000, 2.0)
    assert np.isfinite(norms).all()
    assert norms[-1] ** 4 == pytest.approx(2.0 * 0.5 / 0.2, rel=1e-9)


def test_driven_norm_of_spans_equals_that_of_single_steps() -> None:
    hp = sgd(0.1, 1e-3)
    rng = np.random.default_rng(0)
    sizes = rng.uniform(1, 3, 40)
    fine = drive(hp, 1.5, 400, np.repeat(sizes, 10))
    coarse = drive(hp, 1.5, 40, sizes, span=10)
    np.testing.assert_allclose(coarse, fine[::10], rtol=1e-10)


def test_driven_norm_takes_groups_side_by_side_and_schedules() -> None:
    hp = sgd(0.1, 1e-3)
    both = drive(hp, np.array([1.0, 2.0]), 50, np.array([[3.0, 4.0]]))
    for i, (norm0, value) in enumerate([(1.0, 3.0), (2.0, 4.0)]):
        np.testing.assert_allclose(both[:, i], drive(hp, norm0, 50, value), rtol=1e-13)
    with pytest.raises(InvalidArgument, match=r"one shape \(steps,\)"):
        theory.driven_norm(hp, 1.0, lr=[0.1], weight_decay=[0.1, 0.1], momentum=[0.0], drive=1.0)


def test_without_weight_decay_the_fourth_power_grows_linearly() -> None:
    norms = drive(sgd(0.1, 0.0), 1.0, 100, 5.0)
    np.testing.assert_allclose(norms**4, 1 + 2 * 0.1**2 * 5.0 * np.arange(101), rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_driven_norm_predicts_a_run_of_random_gradients_through_a_drop(momentum: float) -> None:
    settings = constant(0.1, 0.01, momentum, 1500) + constant(0.02, 0.01, momentum, 3000)
    gram = Gram.from_array(simulate_sgd(settings, norm0=2.0, dimension=400))
    lr, weight_decay, alpha = np.array(settings).T
    h = sphere.unit_gradient_drive(gram, lr, weight_decay, alpha)
    norms = theory.driven_norm(
        sgd(0.1, 0.01, momentum),
        sphere.norm(gram)[0],
        lr=lr,
        weight_decay=weight_decay,
        momentum=alpha,
        drive=h,
    )[:-1]
    layer = 60  # the momentum buffer's start-up and memory are left out of the law
    for part in (slice(layer, 1500), slice(1500 + layer, None)):
        assert np.abs(norms[part] / sphere.norm(gram)[part] - 1).max() < 0.05
    squares = theory.driven_step_ratio_sq(
        sgd(0.1, 0.01, momentum), norms, lr=lr, momentum=alpha, drive=h
    )
    for part in (slice(300, 1500), slice(1600, 2000), slice(2000, None)):
        predicted = math.sqrt(squares[part].mean())
        measured = math.sqrt((sphere.angle(gram)[part] ** 2).mean())
        assert measured == pytest.approx(predicted, rel=0.04)


def test_adamw_relaxes_at_its_own_rate() -> None:
    # β2 small enough for the second moment to keep up with the falling norm.
    hp = HyperParameters("adamw", lr=1e-2, weight_decay=0.2, momentum=0.9)
    gram = Gram.from_array(simulate_adamw(constant(1e-2, 0.2, 0.9, 1500), norm0=10.0, beta2=0.98))
    norms = drive(hp, 10.0, 1500, 400.0)[:-1]
    assert np.abs(norms / sphere.norm(gram) - 1).max() < 0.03


# The law of motion


def residual(products: np.ndarray, settings, hp: HyperParameters, steps=None) -> np.ndarray:
    lr, weight_decay, momentum = np.array(settings).T
    steps = np.arange(len(products)) if steps is None else steps
    return theory.law_of_motion_residual(
        hp,
        Gram.from_array(products),
        steps=steps,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
    )


def test_law_of_motion_is_exact_at_every_step_of_any_schedule() -> None:
    rng = np.random.default_rng(1)
    settings = [(0.1 * rng.uniform(0.5, 2), 0.01 * rng.uniform(0, 2), 0.9) for _ in range(300)]
    products = simulate_sgd(settings, radial=0.3)
    found = residual(products, settings, sgd(0.1, 0.01, 0.9))
    assert math.isnan(found[0])
    assert np.nanmax(found) < 1e-10


def test_law_of_motion_shows_a_step_that_someone_else_made() -> None:
    def shove(step: int, w: np.ndarray) -> None:
        if step == 50:
            w *= 1.01

    settings = constant(0.1, 0.01, 0.9, 100)
    found = residual(simulate_sgd(settings, tamper=shove), settings, sgd(0.1, 0.01, 0.9))
    assert found[50] > 0.1
    assert np.nanmax(found[:50]) < 1e-10
    assert np.nanmax(found[52:]) < 1e-10


def test_law_of_motion_links_neighbours_only() -> None:
    settings = constant(0.1, 0.01, 0.9, 40)
    products = simulate_sgd(settings)
    kept = np.array([0, 1, 10, 11, 20, 21])
    found = residual(products[kept], [settings[i] for i in kept], sgd(0.1, 0.01, 0.9), kept)
    np.testing.assert_array_equal(np.isnan(found), [True, False] * 3)
    assert np.nanmax(found) < 1e-10


def test_law_of_motion_is_not_claimed_for_others() -> None:
    hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1)
    with pytest.raises(NoTheory, match="adamw"):
        residual(np.ones((3, 6)), constant(1e-3, 0.1, 0.9, 3), hp)
