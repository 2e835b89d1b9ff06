from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import walk
from simulated import constant, simulate_adamw, simulate_sgd

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters

ADAMW = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9)
SLOW = HyperParameters("sgd", lr=1e-3, weight_decay=1e-4, momentum=0.9)


def sgd(lr: float, weight_decay: float, momentum: float = 0.0) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum)


# Steps to equilibrium


def test_published_and_corrected_lower_bound() -> None:
    assert theory.steps_to_equilibrium(sgd(1e-3, 1e-4), lr_drop=10) == 5_756_463
    assert theory.steps_to_equilibrium(SLOW, lr_drop=10) == 575_647
    assert theory.steps_to_equilibrium(SLOW, lr_drop=10, within=0.05) == 1_105_618


@given(k=st.floats(1.1, 1e4))
def test_at_the_lower_bound_the_angle_is_short_of_its_target_by_a_known_factor(k: float) -> None:
    steps = math.log(k) / theory.relaxation_rate(SLOW)
    excess = theory.relaxed_excess(SLOW, k, steps)
    share = float(theory.angle_at_excess(SLOW, excess)) / theory.equilibrium_angle(SLOW)
    assert share == pytest.approx(math.sqrt(k / (2 * k - 1)), rel=1e-6)


@given(excess=st.floats(1e-3, 1e6).filter(lambda x: abs(x - 1) > 1e-3), within=st.floats(1e-4, 0.9))
def test_steps_to_within_bring_the_angle_just_there(excess: float, within: float) -> None:
    steps = theory.steps_to_within(ADAMW, excess, within)
    after = theory.relaxed_excess(ADAMW, excess, steps)
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
    with pytest.raises(OutOfDomain, match=r"within=.*> 0 and < 1, got 1"):
        theory.steps_to_equilibrium(SLOW, lr_drop=10, within=1.0)
    with pytest.raises(OutOfDomain, match=r"lr_drop.*must be finite, got nan"):
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


# Every family relaxes at its own rate


KNOWN = {"numel": 400, "unit_grad_rms": 0.05, "correlation": 1.0, "update_sq": 1.0}
SWIFT = {
    "heavy ball": HyperParameters("sgd", lr=0.02, weight_decay=0.01, momentum=0.9),
    "Nesterov": HyperParameters("sgd", lr=0.02, weight_decay=0.01, momentum=0.9, nesterov=True),
    "decoupled": HyperParameters("sgd", lr=0.02, weight_decay=0.01, momentum=0.9, decoupled=True),
    "dampened": HyperParameters("sgd", lr=0.04, weight_decay=0.01, momentum=0.9, dampening=0.5),
    "adamw": HyperParameters("adamw", lr=0.005, weight_decay=0.2, betas=(0.9, 0.98)),
    "lion": HyperParameters("lion", lr=0.005, weight_decay=0.2, betas=(0.9, 0.98)),
    "adam": HyperParameters("adam", lr=0.01, weight_decay=0.002, betas=(0.9, 0.95)),
    "muon": HyperParameters("muon", lr=0.01, weight_decay=0.2, momentum=0.0),
}
MEMORY = {"adamw": 60, "lion": 60, "adam": 40, "muon": 1}
"""Steps that an optimizer's buffers reach back; 20 for momentum 0.9."""


@pytest.mark.parametrize("name", SWIFT)
@pytest.mark.parametrize("excess0", [8.0, 0.2])
def test_the_excess_relaxes_as_the_closed_form_says(name: str, excess0: float) -> None:
    hp = SWIFT[name]
    rate = theory.relaxation_rate(hp, **KNOWN)
    steps = round(2.5 / rate)
    norm = theory.equilibrium_norm(hp, unit_grad_sq=1.0, **KNOWN)
    norm0 = norm * excess0 ** (1.0 / theory.relaxing_power(hp))
    scales = np.full(400, 0.05) if hp.optimizer in ("adam", "adamw", "lion") else None
    norms = sphere.norm(walk(hp, steps, norm0=norm0, scales=scales).gram())
    found = theory.excess_of(hp, norms, unit_grad_sq=1.0, **KNOWN)
    # The buffers start empty and forget within their memory, which shifts the way by no more.
    lag, time = MEMORY.get(name, 20), np.arange(steps)
    early, late = (
        theory.relaxed_excess(hp, excess0, np.maximum(time + shift, 0), **KNOWN)
        for shift in (-lag, lag)
    )
    noise = 0.05
    assert (found > np.minimum(early, late) * (1 - noise)).all()
    assert (found < np.maximum(early, late) * (1 + noise)).all()
    assert lag * rate < 0.2


@pytest.mark.parametrize("name", SWIFT)
def test_driven_norm_agrees_with_the_closed_excess_for_a_constant_drive(name: str) -> None:
    hp, steps = SWIFT[name], 300
    drives = {"sgd": 1.0, "muon": KNOWN["update_sq"], "adam": KNOWN["unit_grad_rms"]}
    value = drives.get(hp.optimizer, KNOWN["numel"])
    norms = drive(hp, 3.0, steps, value, **KNOWN)
    power = theory.relaxing_power(hp)
    rest = theory.equilibrium_norm_approx(hp, unit_grad_sq=1.0, **KNOWN)
    if hp.optimizer == "lion":  # its short form is another one
        rest = math.sqrt(hp.lr * 400 * theory.lion_correlation(0.9, 0.98) / (2 * hp.weight_decay))
    expected = theory.relaxed_excess(hp, (3.0 / rest) ** power, np.arange(steps + 1), **KNOWN)
    # Adam's pull is stepped, to first order in the rate; the others are integrated exactly.
    tolerance = 0.01 if hp.optimizer == "adam" else 1e-9
    np.testing.assert_allclose((norms / rest) ** power, expected, rtol=tolerance)


@given(excess0=st.floats(1e-3, 1e6), time=st.floats(0.0, 30.0))
def test_adam_excess_solves_its_differential_equation(excess0: float, time: float) -> None:
    hp = SWIFT["adam"]
    rate = theory.relaxation_rate(hp, **KNOWN)

    def at(t: float) -> float:
        return theory.relaxed_excess(hp, excess0, t / rate, **KNOWN)

    e, h = at(time), 1e-5
    slope = (at(time + h) - at(max(time - h, 0.0))) / (h + min(time, h))
    curvature = 2.0 * e**2 * h  # of a one-sided difference at the start
    assert slope == pytest.approx(
        (2 / 3) * (1 - e**1.5), rel=1e-3, abs=1e-9 + curvature * (time < h)
    )


@given(excess=st.floats(1e-3, 1e6).filter(lambda x: abs(x - 1) > 0.2), within=st.floats(1e-3, 0.05))
def test_adam_comes_within_when_it_says(excess: float, within: float) -> None:
    hp = SWIFT["adam"]
    steps = theory.steps_to_within(hp, excess, within, **KNOWN)
    after = theory.relaxed_excess(hp, excess, steps, **KNOWN)
    assert abs(after**-0.5 - 1) == pytest.approx(within, rel=1e-6)


def test_a_drop_asks_each_family_for_its_own_power() -> None:
    for hp in SWIFT.values():
        norms = [
            theory.equilibrium_norm_approx(h, unit_grad_sq=1.0, **KNOWN)
            for h in (hp, dataclasses.replace(hp, lr=hp.lr / 10))
        ]
        excess = (norms[0] / norms[1]) ** theory.relaxing_power(hp)
        assert excess == pytest.approx(theory.excess_after_drop(hp, 10), rel=1e-9)


# The fourth power, and the stochastic differential equation


def test_fourth_power_is_the_closed_form_of_the_driven_norm() -> None:
    for hp in (sgd(0.1, 1e-3), sgd(0.1, 1e-3, 0.9)):
        closed = theory.norm_fourth(hp, 2.0, np.arange(501), unit_grad_sq=7.0)
        np.testing.assert_allclose(closed, drive(hp, 2.0, 500, 7.0) ** 4, rtol=1e-11)


def test_noise_alone_drives_the_equation_and_the_whole_gradient_the_steps() -> None:
    # A unit gradient with a constant part: mean 3, noise 1. The steps feel 9 + 1, the SDE 1.
    hp = sgd(0.1, 1e-3)
    gamma = theory.sde_gamma(hp, 0.0, 1e7, noise_trace=1.0)
    fourth = theory.norm_fourth(hp, 0.0, 1e7, unit_grad_sq=10.0)
    assert fourth == pytest.approx(10.0 * gamma * hp.lr**2)
    # In the noise-dominated regime both are one.
    a, b = (
        theory.sde_gamma(hp, 2.0, 50, noise_trace=4.0),
        theory.norm_fourth(hp, (2.0 * hp.lr**2) ** 0.25, 50, unit_grad_sq=4.0),
    )
    assert a * hp.lr**2 == pytest.approx(b, rel=1e-12)


def test_fourth_power_refuses_what_it_does_not_describe() -> None:
    with pytest.raises(NoTheory, match=r"norm_fourth holds for SGD, got AdamW"):
        theory.norm_fourth(SWIFT["adamw"], 1.0, 1, unit_grad_sq=1.0)
    with pytest.raises(NoTheory, match="without momentum"):
        theory.sde_gamma(SLOW, 1.0, 1, noise_trace=1.0)
    with pytest.raises(OutOfDomain, match=r"unit_grad_sq=.*got -1"):
        theory.norm_fourth(SLOW, 1.0, 1, unit_grad_sq=-1.0)
    with pytest.raises(OutOfDomain, match="got nan at index 1"):
        theory.norm_fourth(SLOW, [1.0, math.nan], 1, unit_grad_sq=1.0)
