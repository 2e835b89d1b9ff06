"""Formulas at the ends of their domains: tiny and large arguments against 50 digits, and limits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion import theory
from spherical_motion.errors import OutOfDomain
from spherical_motion.vocabulary import HyperParameters

DIGITS = 60


def sgd(lr: float, weight_decay: float, momentum: float = 0.0, **kind: bool) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum, **kind)


def exact_accumulated(hp: HyperParameters, steps: int) -> float:
    """arccos c_n by the two roots of the recursion, in many digits."""
    with mpmath.workdps(DIGITS):
        a, m = mpmath.mpf(hp.lr) * mpmath.mpf(hp.weight_decay), mpmath.mpf(hp.momentum)
        one_minus = a * (1 - m) / (1 + m - m * a) if hp.decoupled else a / (1 + m)
        first, second = (1 - a + m, -m * (1 - a)) if hp.decoupled else (1 + m - a, -m)
        root = mpmath.sqrt(first**2 + 4 * second + mpmath.mpf("1e-40"))
        slow, fast = (first + root) / 2, (first - root) / 2
        share = (1 - one_minus - fast) / (slow - fast)
        cosine = share * slow**steps + (1 - share) * fast**steps
        return float(mpmath.acos(mpmath.re(cosine)))


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 1e-9, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("decay", [1e-24, 1e-15, 1e-9, 1e-4, 1e-2, 0.1, 1.9])
def test_accumulated_angles_have_all_digits(decay: float, momentum: float, decoupled: bool) -> None:
    hp = sgd(1.0, decay, momentum, decoupled=decoupled)
    for steps in (1, 2, 10, 1000, 10**6):
        found = theory.accumulated_angle(hp, steps)
        assert found == pytest.approx(exact_accumulated(hp, steps), rel=1e-10, abs=1e-30)


def test_one_step_accumulates_its_own_angle() -> None:
    for decay in np.geomspace(1e-300, 1.0, 40):
        hp = sgd(1.0, float(decay), 0.9)
        assert theory.accumulated_angle(hp, 1) == pytest.approx(
            theory.equilibrium_angle(hp), rel=1e-12
        )


@given(decay=st.floats(2.001, 3.79), excess=st.floats(1e-12, 1e12))
def test_angles_beyond_a_right_angle_are_positive(decay: float, excess: float) -> None:
    hp = sgd(1.0, decay, 0.9)
    rest, angle = theory.equilibrium_angle(hp), theory.angle_at_excess(hp, excess)
    assert math.pi / 2 < rest < math.pi
    assert math.pi / 2 < angle <= math.pi
    # The step's part along the weights does not depend on the norm, the part across falls with it.
    assert math.tan(angle) * math.sqrt(excess) == pytest.approx(math.tan(rest), rel=1e-6)


def test_a_turn_by_nearly_pi_stays_one() -> None:
    hp = sgd(1.0, 3.8 * (1 - 1e-12), 0.9)
    assert theory.equilibrium_angle(hp) == pytest.approx(math.pi, abs=1e-5)
    for excess in (1e-3, 1.0, 1e3):
        assert theory.angle_at_excess(hp, excess) == pytest.approx(math.pi, abs=1e-4)


@pytest.mark.parametrize("function", [theory.growth_rate, theory.growth_rate_approx])
def test_growth_beyond_float64_is_refused(function) -> None:
    assert function(0.1, 5e-4, 0.9, steps=700_000) > 1e300
    with pytest.raises(OutOfDomain, match="log_growth_rate"):
        function(0.1, 5e-4, 0.9, steps=800_000)
    with pytest.raises(OutOfDomain, match="steps"):
        function(0.1, 5e-4, 0.9, steps=math.nan)


def test_overflow_is_found_at_once_however_far_it_is() -> None:
    slow = theory.steps_to_overflow(1e-9, 1e-3, 0.0)
    assert slow == pytest.approx(theory.steps_to_overflow_approx(1e-9, 1e-3, 0.0), rel=1e-9)
    with pytest.raises(OutOfDomain, match="approx"):
        theory.steps_to_overflow(1e-9, 1e-12, 0.0)


def test_the_fourth_power_of_a_norm_may_overflow_where_what_is_left_does_not() -> None:
    hp = sgd(0.1, 1e-3)
    with mpmath.workdps(50):
        kept = mpmath.exp(-mpmath.mpf("4e-4") * 1_000_000) * mpmath.mpf("1e100") ** 4
    assert theory.norm_fourth(hp, 1e100, 1_000_000, unit_grad_sq=0.0) == pytest.approx(
        float(kept), rel=1e-10
    )
    with pytest.raises(OutOfDomain, match="float64"):
        theory.norm_fourth(hp, 1e100, 1, unit_grad_sq=1.0)
    for steps in (0, 1, 10**12):
        found = theory.norm_fourth(hp, 1e-200, steps, unit_grad_sq=1e-300)
        assert 0.0 <= found < 1e-290


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9999])
def test_to_a_rate_of_0_all_angles_are_the_leading_order(momentum: float) -> None:
    for kind in ({}, {"nesterov": momentum > 0}, {"decoupled": True}):
        for decay in (1e-18, 1e-100, 1e-300):
            hp = sgd(1.0, decay * (1 - momentum), momentum, **kind)
            approx = theory.equilibrium_angle_approx(hp)
            assert theory.equilibrium_angle(hp) == pytest.approx(approx, rel=1e-12)
            assert theory.equilibrium_step_ratio(hp) == pytest.approx(approx, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.angle_of_step(1e300, 1e-300), "length between"),
        (lambda: theory.radius_sq_after(1e-100, 1.0, 1e300), "float64"),
        (lambda: theory.effective_learning_rate(sgd(1e10, 0.0), 1e-200), "float64"),
        (lambda: theory.excess_of(sgd(0.1, 1e-3), 1e100, unit_grad_sq=1.0), "float64"),
        (lambda: theory.angle_bound(sgd(0.1, 1e-4, 0.9), variance=1e300, lowest=1e-100,
                                    unit_grad_sq=1e-300), "uneven"),
    ],
)  # fmt: skip
def test_what_float64_cannot_hold_is_an_error_of_ours(call, message: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(OutOfDomain, match=message):
        call()


def test_large_steps_on_the_sphere_keep_their_direction() -> None:
    step = theory.image_step([1e100, 1e100], [1e110, -1e110], lr=1e-5)
    mild = theory.image_step([1.0, 1.0], [1e10, -1e10], lr=1e-5)
    assert step.angle == pytest.approx(float(mild.angle), rel=1e-12)
    assert step.after == pytest.approx(mild.after, rel=1e-12)


def test_lion_forgets_slowly_at_once() -> None:
    near = theory.lion_correlation(0.9999, 1 - 1e-7)
    assert theory.lion_correlation(0.9999, 1 - 1.0001e-7) == pytest.approx(near, rel=1e-3)
    assert theory.lion_correlation(0.9999, 1 - 1e-12) > near
