"""The papers' trainings, forecast from their settings alone, against what the papers print."""

from __future__ import annotations

import numpy as np
import pytest

from spherical_motion import theory
from spherical_motion.forecasting import Forecast, Outcome, forecast
from spherical_motion.simulate import norm_through
from spherical_motion.vocabulary import HyperParameters, Schedule

SGD = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
IMAGENET = Schedule.step_decay(SGD, 90, [30, 60, 80]).in_epochs(5005)
COCO = Schedule.step_decay(
    HyperParameters("sgd", lr=0.02, weight_decay=1e-4, momentum=0.9), 360_000, [300_000, 340_000]
)


def outcomes(plan: Forecast) -> list[str]:
    return [stage.outcome.value for stage in plan]


def test_imagenet_reaches_its_first_two_equilibria_and_misses_the_others() -> None:
    found = forecast(IMAGENET)
    assert outcomes(found) == ["settles", "settles", "falls short", "falls short"]
    angles = [stage.equilibrium_angle for stage in found]
    np.testing.assert_allclose(angles, [3.244e-3, 1.026e-3, 3.244e-4, 1.026e-4], rtol=3e-4)


def test_coco_reaches_its_first_equilibrium_only() -> None:
    found = forecast(COCO)
    assert outcomes(found) == ["settles", "falls short", "falls short"]
    assert found[0].equilibrium_angle == pytest.approx(1.451e-3, rel=3e-4)


@pytest.mark.parametrize(
    ("lr", "weight_decay", "angle"), [(0.5, 4e-5, 4.588e-3), (0.1, 5e-4, 7.255e-3)]
)
def test_other_published_settings(lr: float, weight_decay: float, angle: float) -> None:
    plan = Schedule.constant(HyperParameters("sgd", lr, weight_decay, 0.9), 100_000)
    assert forecast(plan)[0].equilibrium_angle == pytest.approx(angle, rel=3e-4)


def test_a_drop_from_exact_equilibrium_needs_the_steps_of_the_closed_form() -> None:
    hp = HyperParameters("sgd", lr=1e-2, weight_decay=1e-4, momentum=0.9)
    stage = forecast(Schedule.step_decay(hp, 1_100_100, [1_000_000]))[1]
    assert stage.steps_at_least == pytest.approx(575_647, abs=3)
    assert stage.steps_needed == pytest.approx(1_105_618, abs=3)
    assert stage.shortfall == pytest.approx(2.65, abs=0.005)
    assert stage.remedy is not None
    assert stage.remedy.rescale == pytest.approx(10**-0.25, rel=1e-5)


def test_what_the_stage_before_left_over_is_carried_on() -> None:
    third = forecast(IMAGENET)[2]
    # Stage 2 ends e^-6 of the way short: 1 + 9e^-6 above rest, and ten times that after the drop.
    assert third.excess_start == pytest.approx(10 * (1 + 9 * np.exp(-150_150 * 4e-5)), rel=1e-4)
    assert third.shortfall == pytest.approx(2.68, abs=0.005)


@pytest.mark.parametrize("plan", [IMAGENET, COCO], ids=["ImageNet", "COCO"])
def test_the_exact_recursion_ends_each_stage_at_the_forecast_angle(plan: Schedule) -> None:
    rest = theory.equilibrium_norm(plan.stages()[0].hp, unit_grad_sq=10.0)  # type: ignore[arg-type]
    run = norm_through(plan, 10.0, norm0=rest, every=1)
    for stage in forecast(plan, norm0=rest, unit_grad_sq=10.0):
        last = stage.stage.stop - 1
        assert run.angle[last] == pytest.approx(stage.angle_end, rel=2e-4)
        assert np.sqrt(run.norm_sq[last]) == pytest.approx(stage.norm_end, rel=2e-4)


def test_ten_times_the_weight_decay_keeps_the_angle_and_does_not_settle_the_third_stage() -> None:
    """η ÷ 10 with λ × 10 leaves ηλ, hence Δ*, as it was (Li & Arora, 2020, figure 5)."""
    decay = np.where(np.arange(IMAGENET.steps) < 300_300, 1e-4, 1e-3)
    second, third = forecast(Schedule(SGD, IMAGENET.lr, decay))[1:3]
    assert third.equilibrium_angle == pytest.approx(second.equilibrium_angle, rel=1e-12)
    assert third.outcome is Outcome.FALLS_SHORT
    assert third.steps_needed == pytest.approx(171_000, rel=0.01)
    assert third.angle_end == pytest.approx(6.1e-4, rel=0.01)
