from __future__ import annotations

import math

import numpy as np
import pytest

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.forecasting import Outcome, forecast
from spherical_motion.vocabulary import HyperParameters, Schedule

SGD = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
PLAN = Schedule.step_decay(SGD, steps=450_000, milestones=[150_000, 300_000])


def test_first_stage_starts_in_equilibrium_when_nothing_is_known() -> None:
    first = forecast(PLAN)[0]
    assert first.steps_needed == 0
    assert first.settles
    assert first.angle_start == pytest.approx(first.equilibrium_angle, rel=1e-6)
    assert math.isnan(first.norm_start)


def test_a_drop_divides_the_angle_at_once_and_raises_it_slowly() -> None:
    first, second, third = forecast(PLAN)
    # η/k at the old norm: Δ_old/k; the new equilibrium is Δ_old/√k.
    assert second.angle_start == pytest.approx(first.angle_end / 10, rel=1e-3)
    assert second.equilibrium_angle == pytest.approx(first.equilibrium_angle / 10**0.5, rel=1e-3)
    assert second.settles
    assert not third.settles
    assert third.steps_needed > third.stage.steps


def test_angles_do_not_depend_on_the_drive() -> None:
    for few, many in zip(forecast(PLAN), forecast(PLAN, unit_grad_sq=1e6), strict=True):
        assert few.angle_end == pytest.approx(many.angle_end, rel=1e-9)
        assert math.isfinite(many.norm_end)


def test_steps_needed_after_a_drop_are_those_of_the_closed_form() -> None:
    needed = forecast(PLAN)[1].steps_needed
    hp = HyperParameters("sgd", lr=0.01, weight_decay=1e-4, momentum=0.9)
    assert needed == pytest.approx(theory.steps_to_equilibrium(hp, 10, within=0.05), rel=1e-3)


def test_a_heavy_start_delays_the_first_stage() -> None:
    light = forecast(PLAN, norm0=theory.equilibrium_norm(SGD, unit_grad_sq=5.0), unit_grad_sq=5.0)
    heavy = forecast(PLAN, norm0=50.0, unit_grad_sq=5.0)
    assert light[0].steps_needed == 0
    assert heavy[0].steps_needed > 1000
    assert heavy[0].norm_start == 50.0


def test_adamw_is_forecast_from_the_number_of_entries() -> None:
    hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    stage = forecast(Schedule.constant(hp, 200_000), norm0=1.0, numel=10_000)[0]
    assert stage.norm_end == pytest.approx(math.sqrt(10_000 * 1e-3 / 0.2), rel=1e-3)
    assert stage.angle_end == pytest.approx(stage.equilibrium_angle, rel=1e-3)


def test_varying_and_decay_free_stages_say_that_they_have_no_equilibrium() -> None:
    lr = np.concatenate([np.linspace(0.001, 0.1, 100), np.full(1000, 0.1), np.full(500, 0.1)])
    decay = np.concatenate([np.full(1100, 1e-3), np.zeros(500)])
    first, second, third = forecast(Schedule(SGD, lr, decay))
    assert "vary" in str(first)
    assert first.outcome is Outcome.VARIES
    # The ramp ends at the rate of the next stage, and a norm does not jump.
    assert first.angle_end == pytest.approx(second.angle_start, rel=0.01)
    assert "equilibrium" in str(second)
    assert "no weight decay" in str(third)
    assert not third.settles


def test_bad_input() -> None:
    with pytest.raises(InvalidArgument, match=r"norm0=3\) needs unit_grad_sq"):
        forecast(PLAN, norm0=3.0)
    with pytest.raises(InvalidArgument, match="must be finite and > 0, got -1"):
        forecast(PLAN, unit_grad_sq=-1.0)
    free = Schedule.constant(HyperParameters("sgd", lr=0.1), 100)
    with pytest.raises(InvalidArgument, match="this schedule has no equilibrium to start from"):
        forecast(free)
    with pytest.raises(NoTheory):
        forecast(Schedule.constant(HyperParameters("other", lr=0.1, weight_decay=0.1), 100))


def test_a_stage_without_an_equilibrium_names_the_obstacle() -> None:
    lr = np.repeat([0.1, 0.0, 0.1, 0.1], 1000)
    decay = np.repeat([1e-3, 1e-3, 0.0, 40.0], 1000)
    found = forecast(Schedule(SGD, lr, decay))
    assert [stage.outcome for stage in found][1:] == [Outcome.NO_EQUILIBRIUM] * 3
    assert "nothing moves" in str(found[1])
    assert found[1].angle_end == 0.0
    assert "the norm only grows" in str(found[2])
    assert found[2].angle_end < found[2].angle_start
    assert "too large for an equilibrium" in str(found[3])
    assert not found.falling_short


def test_a_cosine_follows_its_moving_equilibrium_until_it_is_too_fast() -> None:
    plan = Schedule.cosine(HyperParameters("sgd", 0.1, 5e-4, 0.9), 100_000)
    stage = forecast(plan)[0]
    assert stage.outcome is Outcome.VARIES
    # With y* ∝ η the excess obeys dx/dt = r(1 - x) - x·d(ln η)/dt. Where it keeps up, that is
    # 1 - 1/x = -d(ln η)/dt / r, and the angle is 5% short where 1/x = 0.95².
    share = np.linspace(0, 1, 100_001)[:-1]
    fall = np.pi * np.tan(np.pi * share / 2) / plan.steps
    rate = 4 * plan.lr * 5e-4 / 0.1
    until = float(np.argmax(fall / rate > 1 - 0.95**2))
    assert stage.settled_until == pytest.approx(until, rel=0.05)
    assert stage.angle_end < 1e-3 * stage.angle_peak


def test_without_a_constant_stage_it_starts_at_rest_under_the_highest_rate() -> None:
    plan = Schedule.linear_warmup(SGD, 500).then(Schedule.cosine(SGD, 500))
    found = forecast(plan)
    assert found.start == "at rest under its highest learning rate, 0.1"
    assert found[0].angle_peak == pytest.approx(theory.equilibrium_angle(SGD), rel=0.05)


def test_a_swinging_norm_is_not_called_settled() -> None:
    hp = HyperParameters("sgd", lr=1.0, weight_decay=5e-4, momentum=0.99)
    plan = Schedule.step_decay(hp, steps=4400, milestones=[4000])
    short = forecast(plan)[1]
    assert short.steps_needed == 606
    assert short.outcome is Outcome.FALLS_SHORT
    assert abs(short.angle_end / short.equilibrium_angle - 1) >= 0.05
    longer = forecast(Schedule.step_decay(hp, steps=4700, milestones=[4000]))[1]
    assert longer.settles


def test_turns_beyond_a_right_angle_are_forecast_as_such() -> None:
    hp = HyperParameters("sgd", lr=1.0, weight_decay=3.0, momentum=0.9)
    rest = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    assert theory.equilibrium_angle(hp) > 1.57
    for norm0 in (0.2 * rest, 5 * rest):
        stage = forecast(Schedule.constant(hp, 3), norm0, unit_grad_sq=1.0)[0]
        assert stage.angle_start > 1.57
        assert not stage.settles
