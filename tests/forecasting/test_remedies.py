"""Each remedy, taken, does what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spherical_motion.forecasting import Outcome, StageForecast, find_remedy, forecast
from spherical_motion.theory import GroupFacts
from spherical_motion.vocabulary import HyperParameters, Schedule

GROUP = {"numel": 1e4, "unit_grad_rms": 0.1, "correlation": 39.0, "update_sq": 1e3}
PLANS = {
    "sgd": HyperParameters("sgd", 1e-2, 1e-4, 0.9),
    "nesterov": HyperParameters("sgd", 1e-2, 1e-4, 0.9, nesterov=True),
    "decoupled": HyperParameters("sgd", 1e-2, 1e-3, 0.9, decoupled=True),
    "adamw": HyperParameters("adamw", 1e-3, 1e-2, betas=(0.9, 0.95)),
    "lion": HyperParameters("lion", 1e-4, 0.1, betas=(0.9, 0.99)),
    "muon": HyperParameters("muon", 2e-3, 1e-2, 0.95),
    "adam": HyperParameters("adam", 1e-3, 1e-2, betas=(0.9, 0.999)),
}
LENGTH, SHORT = 1_000, 20_000


def dropped(hp: HyperParameters, length: int = SHORT, decay_factor: float = 1.0) -> Schedule:
    """At rest, then a tenth of the rate for `length` steps."""
    lr = np.repeat([hp.lr, hp.lr / 10], [LENGTH, length])
    decay = np.repeat([hp.weight_decay, hp.weight_decay * decay_factor], [LENGTH, length])
    return Schedule(hp, lr, decay)


def group(hp: HyperParameters) -> dict:
    return GROUP | ({"unit_grad_sq": 5.0} if hp.optimizer == "sgd" else {})


def short_stage(hp: HyperParameters) -> StageForecast:
    stage = forecast(dropped(hp), **group(hp))[1]
    assert stage.outcome is Outcome.FALLS_SHORT
    assert stage.remedy is not None
    return stage


@pytest.mark.parametrize("name", PLANS)
def test_the_steps_asked_for_settle_it_and_fewer_do_not(name: str) -> None:
    hp = PLANS[name]
    remedy = short_stage(hp).remedy
    assert remedy is not None
    long = forecast(dropped(hp, remedy.steps), **group(hp))[1]
    assert long.settles
    assert long.angle_end / long.equilibrium_angle == pytest.approx(0.95, abs=0.002)
    assert not forecast(dropped(hp, int(remedy.steps * 0.99)), **group(hp))[1].settles


@pytest.mark.parametrize("name", PLANS)
def test_the_weight_decay_asked_for_settles_it_and_less_does_not(name: str) -> None:
    hp = PLANS[name]
    stage = short_stage(hp)
    remedy = stage.remedy
    assert remedy is not None
    more = forecast(dropped(hp, decay_factor=remedy.weight_decay), **group(hp))[1]
    assert more.settles
    assert more.equilibrium_angle / stage.equilibrium_angle == pytest.approx(remedy.angle)
    assert not forecast(dropped(hp, decay_factor=remedy.weight_decay * 0.99), **group(hp))[
        1
    ].settles


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("sgd", 1 / 4),
        ("nesterov", 1 / 4),
        ("decoupled", 1 / 4),
        ("adamw", 1 / 2),
        ("lion", 1 / 2),
        ("muon", 1 / 2),
        ("adam", 1 / 3),
    ],
)
def test_rescaling_after_a_drop_is_the_ratio_of_norms_at_rest(name: str, power: float) -> None:
    hp = PLANS[name]
    stage = short_stage(hp)
    assert stage.remedy is not None
    assert stage.remedy.rescale == pytest.approx(10**-power, rel=2e-3)
    rest = Schedule(hp, np.full(SHORT, hp.lr / 10))
    start = stage.norm_start * stage.remedy.rescale
    rescaled = forecast(rest, norm0=start, **group(hp))[0]
    assert rescaled.steps_needed == 0
    assert rescaled.angle_end == pytest.approx(rescaled.equilibrium_angle, rel=1e-3)


def test_a_light_group_is_made_heavier_and_no_weight_decay_is_advised() -> None:
    hp = PLANS["sgd"]
    stage = forecast(Schedule.constant(hp, 1000), norm0=0.05, unit_grad_sq=5.0)[0]
    assert stage.remedy is not None
    assert stage.remedy.rescale > 1
    assert math.isnan(stage.remedy.weight_decay)
    assert "×" in str(stage)
    assert "above" in str(stage)
    assert "weight decay" not in str(stage)


def test_the_sentence_carries_the_numbers_of_the_object() -> None:
    stage = short_stage(PLANS["sgd"])
    assert stage.remedy is not None
    for number in (f"{stage.steps_at_least:,}", f"{stage.steps_needed:,}", f"{SHORT:,}"):
        assert number in str(stage)
    assert f"{stage.shortfall:.2f} × below" in str(stage)
    assert f"by {stage.remedy.rescale:.3g}" in str(stage)


def test_a_factor_beyond_reason_is_computed_and_not_advised() -> None:
    stage = forecast(dropped(PLANS["sgd"], length=2_000))[1]
    assert stage.remedy is not None
    assert stage.remedy.weight_decay > 100
    assert "weight decay" not in str(stage)


def test_a_group_may_be_described_by_a_mapping() -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-3)
    facts = {"unit_grad_sq": 10.0}
    found = find_remedy(hp, 8.0, 10.0, facts, 1000)
    assert found == find_remedy(hp, 8.0, 10.0, GroupFacts(**facts), 1000)
    assert found.rescale < 1.0
