from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import constant, simulate_adamw, simulate_sgd

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters


def sgd(lr: float, weight_decay: float, momentum: float = 0.0) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum)


def adamw(lr: float, weight_decay: float, beta1: float = 0.9) -> HyperParameters:
    return HyperParameters("adamw", lr=lr, weight_decay=weight_decay, momentum=beta1)


# Values and limits


@pytest.mark.parametrize(
    ("lr", "expected"), [(0.1, 3.244e-3), (0.01, 1.026e-3), (1e-3, 3.24e-4), (1e-4, 1.026e-4)]
)
def test_resnet50_on_imagenet(lr: float, expected: float) -> None:
    assert theory.equilibrium_angle(sgd(lr, 1e-4, 0.9)) == pytest.approx(expected, rel=3e-3)


@given(
    x=st.floats(1e-12, 1.9),
    momentum=st.floats(0.0, 0.999),
)
def test_exact_angle_solves_its_own_equation_in_fifty_digits(x: float, momentum: float) -> None:
    hp = sgd(1.0, x, momentum)
    with mpmath.workdps(50):
        cosine = mpmath.cos(mpmath.mpf(theory.equilibrium_angle(hp)))
        one_minus = mpmath.mpf(x) / (1 + mpmath.mpf(momentum))
        assert abs((1 - cosine) / one_minus - 1) < 1e-12


@pytest.mark.parametrize("make", [sgd, adamw])
def test_angle_grows_as_the_square_root_of_the_intrinsic_rate(make) -> None:
    x = np.logspace(-10, -4, 13)
    angles = [theory.equilibrium_angle(make(0.1, v / 0.1, 0.9)) for v in x]
    slope = np.polyfit(np.log(x), np.log(angles), 1)[0]
    assert slope == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("make", [sgd, adamw])
def test_exact_and_approximate_part_in_proportion_to_the_intrinsic_rate(make) -> None:
    x = np.array([1e-1, 1e-2, 1e-3, 1e-4])
    hps = [make(1.0, v, 0.9) for v in x]
    gaps = [
        abs(theory.equilibrium_angle(hp) / theory.equilibrium_angle_approx(hp) - 1) for hp in hps
    ]
    assert np.polyfit(np.log(x), np.log(gaps), 1)[0] == pytest.approx(1.0, abs=0.02)


def test_gap_of_the_approximation_is_the_share_the_docstring_gives() -> None:
    hp = sgd(1.0, 1e-3, 0.9)
    gap = theory.equilibrium_angle(hp) / theory.equilibrium_angle_approx(hp) - 1
    assert gap == pytest.approx(1e-3 / (12 * 1.9), rel=1e-3)


def test_no_momentum_is_the_limit_of_little_momentum() -> None:
    a, b = sgd(0.1, 1e-3, 1e-12), sgd(0.1, 1e-3)
    assert theory.equilibrium_angle(a) == pytest.approx(theory.equilibrium_angle(b), rel=1e-11)
    assert theory.equilibrium_norm(a, unit_grad_sq=3.0) == pytest.approx(
        theory.equilibrium_norm(b, unit_grad_sq=3.0), rel=1e-11
    )


# Against random gradients


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_rests_at_the_angle_and_norm_of_the_closed_form(momentum: float) -> None:
    hp = sgd(0.1, 0.02, momentum)
    settings = constant(0.1, 0.02, momentum, 6000)
    gram = Gram.from_array(simulate_sgd(settings, dimension=400)[2000:])
    assert sphere.angle(gram).mean() == pytest.approx(theory.equilibrium_angle(hp), rel=5e-3)
    ratio = math.sqrt(gram.dd.mean() / gram.ww.mean())
    assert ratio == pytest.approx(theory.equilibrium_step_ratio(hp), rel=1e-3)
    drive = sphere.unit_gradient_drive(gram, 0.1, 0.02, momentum).mean()
    rest = theory.equilibrium_norm(hp, unit_grad_sq=drive)
    assert sphere.norm(gram).mean() == pytest.approx(rest, rel=5e-3)


def test_rms_law_holds_whatever_the_gradients_do() -> None:
    # Sizes with a coefficient of variation of 3: the mean angle is far off, the RMS law is not.
    hp = sgd(0.1, 0.01, 0.9)
    sizes = lambda step, rng: rng.lognormal(0.0, math.sqrt(math.log(10.0)))  # noqa: E731
    settings = constant(0.1, 0.01, 0.9, 40_000)
    gram = Gram.from_array(simulate_sgd(settings, size=sizes)[2000:])
    ratio = math.sqrt(gram.dd.mean() / gram.ww.mean())
    assert ratio == pytest.approx(theory.equilibrium_step_ratio(hp), rel=0.02)
    assert sphere.angle(gram).mean() < 0.8 * theory.equilibrium_angle(hp)


def test_adamw_rests_at_the_angle_and_norm_of_the_closed_form() -> None:
    hp = adamw(1e-2, 0.1)
    products = simulate_adamw(constant(1e-2, 0.1, 0.9, 8000), norm0=4.5)
    gram = Gram.from_array(products[2000:])
    assert sphere.angle(gram).mean() == pytest.approx(theory.equilibrium_angle(hp), rel=0.01)
    rest = theory.equilibrium_norm(hp, numel=400)
    assert sphere.norm(gram).mean() == pytest.approx(rest, rel=0.02)


# Bad input


@pytest.mark.parametrize(
    "function",
    [
        theory.equilibrium_angle,
        theory.equilibrium_angle_approx,
        theory.equilibrium_step_ratio,
        theory.relaxation_rate,
    ],
)
@pytest.mark.parametrize(
    ("hp", "found"),
    [
        (sgd(0.1, 0.0), "weight_decay=0"),
        (sgd(0.0, 0.1), "lr=0"),
        (sgd(2.0, 1.0), "= 2"),
        (sgd(2.0, 2.0, 0.9), "< 3.8"),
        (adamw(2.0, 1.0), "< 2"),
    ],
)
def test_where_there_is_no_equilibrium_the_message_says_so(function, hp, found: str) -> None:
    with pytest.raises(OutOfDomain, match=found):
        function(hp)


@pytest.mark.parametrize(
    ("hp", "found"),
    [
        (HyperParameters("other", lr=0.1, weight_decay=0.1), "unknown optimizer"),
        (HyperParameters("lion", lr=0.1, weight_decay=0.1, decoupled=False), "lion with L2"),
        (HyperParameters("muon", lr=0.1, weight_decay=0.1, decoupled=False), "muon with L2"),
        (
            HyperParameters("sgd", lr=0.1, momentum=0.9, nesterov=True, dampening=0.5),
            "nesterov=True and dampening=0.5",
        ),
        (
            HyperParameters("sgd", lr=0.1, momentum=0.9, nesterov=True, decoupled=True),
            "nesterov=True and decoupled",
        ),
    ],
)
def test_optimizers_without_a_closed_form_are_named(hp, found: str) -> None:
    with pytest.raises(NoTheory, match=found):
        theory.family_of(hp)


def test_dampening_without_momentum_does_nothing_and_is_allowed() -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.1, dampening=0.5)
    assert theory.equilibrium_angle(hp) == theory.equilibrium_angle(sgd(0.1, 0.1))


def test_the_norm_needs_the_drive_of_its_optimizer() -> None:
    with pytest.raises(InvalidArgument, match=r"unit_grad_sq=.*sgd, got None"):
        theory.equilibrium_norm(sgd(0.1, 0.1), numel=10)
    with pytest.raises(InvalidArgument, match=r"numel=.*adamw, got None"):
        theory.equilibrium_norm(adamw(0.1, 0.1), unit_grad_sq=1.0)
    with pytest.raises(InvalidArgument, match="got -1"):
        theory.equilibrium_norm(sgd(0.1, 0.1), unit_grad_sq=-1.0)
