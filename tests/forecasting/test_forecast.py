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
