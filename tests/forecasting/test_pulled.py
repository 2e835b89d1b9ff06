"""Forecasts and plans with the pull of a former run, held against walks that the loss pulls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion import Schedule, read
from spherical_motion.comparison import compare
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.forecasting import (
    Outcome,
    forecast,
    settings_for_angle,
    settings_for_time_constant,
)
from spherical_motion.sphere import angle
from spherical_motion.vocabulary import Gram, HyperParameters

HP = HyperParameters("sgd", lr=0.1, weight_decay=0.02, momentum=0.9)
FACTS = {"norm0": 1.0, "unit_grad_sq": 1.0}


@pytest.mark.parametrize("kappa", [-0.015, 0.0, 0.03])
def test_weights_that_the_loss_pulls_come_to_rest_at_the_forecast_angle(kappa) -> None:
    settings = constant(0.1, 0.02, 0.9, 3000)
    products = pulled_sgd(settings, kappa, norm0=2.0)[1500:]
    measured = math.sqrt(float((angle(Gram.from_array(products)) ** 2).mean()))
    found = forecast(Schedule.constant(HP, 3000), pull=0.02 + kappa)[0]
    assert found.equilibrium_angle == pytest.approx(measured, rel=0.02)
    assert found.stage.hp == HP
    assert found.pull == pytest.approx(0.02 + kappa)


def test_so_do_the_norm_and_the_way_to_it() -> None:
    # Random gradients of a given unit size: the norm's law is that of invariant weights.
    settings = constant(0.1, 0.002, 0.9, 1000)
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.002, momentum=0.9)
    products = pulled_sgd(settings, 0.006, norm0=4.0)
    found = forecast(Schedule.constant(hp, 1000), 4.0, pull=0.008, unit_grad_sq=1.0)[0]
    assert found.norm_end == pytest.approx(math.sqrt(products[-200:, 0].mean()), rel=0.02)
    half = forecast(Schedule.constant(hp, 60), 4.0, pull=0.008, unit_grad_sq=1.0)[0]
    assert half.norm_end == pytest.approx(math.sqrt(products[60, 0]), rel=0.03)


def test_adam_with_l2_turns_by_its_pull_alone() -> None:
    settings = constant(1e-2, 0.05, 0.9, 3000)
    products = pulled_adam(settings, 0.05, decoupled=False, beta2=0.999, norm0=4.5)[1000:]
    pull = float(products[:, 6].sum() / products[:, 0].sum())
    measured = math.sqrt(float((angle(Gram.from_array(products)) ** 2).mean()))
    hp = HyperParameters("adam", lr=1e-2, weight_decay=0.05, betas=(0.9, 0.999))
    found = forecast(Schedule.constant(hp, 3000), pull=pull)[0]
    assert found.equilibrium_angle == pytest.approx(measured, rel=0.03)


def test_the_pull_of_plain_weight_decay_changes_nothing() -> None:
    plan = Schedule.step_decay(HP, 2000, [1000])
    plain, pulled = forecast(plan, **FACTS), forecast(plan, pull=0.02, **FACTS)
    for a, b in zip(plain, pulled, strict=True):
        assert math.isnan(a.pull)
        assert b.angle_end == pytest.approx(a.angle_end, rel=1e-12)
        assert b.norm_end == pytest.approx(a.norm_end, rel=1e-12)
        assert b.steps_needed == a.steps_needed


def test_a_run_gives_the_pull_of_each_of_its_stages(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 400) + constant(0.01, 0.02, 0.9, 400)
    products = np.concatenate(
        [pulled_sgd(settings[:400], 0.01), pulled_sgd(settings[400:], -0.005)]
    )
    records = read(write_run({"head": products}, settings, kind="plain"))
    heavier = HyperParameters("sgd", lr=0.1, weight_decay=0.03, momentum=0.9)
    plan = Schedule.step_decay(heavier, 3000, [1000, 2000])
    found = forecast(plan, pull=records, group="head")
    # The loss adds what it added then; the last stage's goes on.
    assert [stage.pull for stage in found] == pytest.approx([0.04, 0.025, 0.025], rel=1e-6)
    row = compare(records)["head", 1]
    assert found[0].pull == pytest.approx(row.pull + 0.01, rel=1e-6)


def test_each_stage_may_have_its_own_pull() -> None:
    plan = Schedule.step_decay(HP, 2000, [1000])
    found = forecast(plan, pull={2: 0.005})
    assert [stage.pull for stage in found] == pytest.approx([0.02, 0.005])
    same = forecast(Schedule.constant(HP, 10), pull=0.005)[0].equilibrium_angle
    assert found[1].equilibrium_angle == pytest.approx(same / math.sqrt(10), rel=1e-3)


def test_without_an_inward_pull_there_is_no_equilibrium() -> None:
    found = forecast(Schedule.constant(HP, 100), pull=-0.01, **FACTS)[0]
    assert found.outcome is Outcome.NO_EQUILIBRIUM
    assert "decay and loss together do not pull inward" in str(found)
    with pytest.raises(InvalidArgument) as error:
        forecast(Schedule.constant(HP, 100), pull=-0.01)
    for part in ("pull=-0.01", "nothing pulls inward", "norm0=", "unit_grad_sq=", "--pull-from"):
        assert part in str(error.value)


def test_a_remedy_raises_only_the_decay() -> None:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.002, momentum=0.9)
    plan = Schedule.step_decay(hp, 2000, [1000])
    for pull in (0.003, 0.001):
        remedy = forecast(plan, pull=pull)[1].remedy
        assert remedy is not None
        total = 0.002 * remedy.weight_decay + pull - 0.002
        assert forecast(plan, pull={1: pull, 2: 1.001 * total})[1].settles
        assert not forecast(plan, pull={1: pull, 2: 0.98 * total})[1].settles


@pytest.mark.parametrize("pull", [0.01, 0.03])
def test_planned_settings_give_the_wanted_angle_with_the_losses_pull(pull) -> None:
    for optimizer, momentum in (("sgd", 0.9), ("adamw", 0.9)):
        hp = HyperParameters(optimizer, lr=0.01, weight_decay=0.02, momentum=momentum)
        for found in settings_for_angle(hp, 0.02, pull=pull):
            at = HyperParameters(optimizer, found.lr, found.weight_decay, momentum)
            total = found.weight_decay + pull - 0.02
            again = forecast(Schedule.constant(at, 10), pull=total)[0]
            assert again.equilibrium_angle == pytest.approx(0.02, rel=1e-9)
        plain = settings_for_time_constant(hp, 100.0, lrs=[0.01])
        pulled = settings_for_time_constant(hp, 100.0, lrs=[0.01], pull=pull)
        for a, b in zip(plain, pulled, strict=True):
            assert b.weight_decay == pytest.approx(a.weight_decay - (pull - 0.02), rel=1e-9)
            assert b.angle == pytest.approx(a.angle, rel=1e-9)


def test_what_no_pull_can_give_is_refused() -> None:
    with pytest.raises(OutOfDomain, match="the loss alone pulls by"):
        settings_for_angle(HP, 1e-3, pull=0.1)
    with pytest.raises(OutOfDomain, match="at lr 1:"):
        settings_for_angle(HP, 2e-2, lrs=[0.01, 1.0], pull=0.03)
    assert len(settings_for_angle(HP, 2e-2, pull=0.03)) == 2  # of five rates, the lowest
    adam = HyperParameters("adam", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.999))
    with pytest.raises(InvalidArgument, match="under Adam with L2 decay"):
        settings_for_angle(adam, 1e-3, pull=0.1, unit_grad_rms=1.0, numel=100)
    with pytest.raises(InvalidArgument, match="numbers of stages from 1 to 1, got 2"):
        forecast(Schedule.constant(HP, 10), pull={2: 0.1})
    with pytest.raises(InvalidArgument, match="needs pull="):
        forecast(Schedule.constant(HP, 10), group="head")
    with pytest.raises(InvalidArgument, match="must be a finite number"):
        forecast(Schedule.constant(HP, 10), pull=math.nan)


def test_a_run_needs_a_group_and_a_pull_on_record(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 100)
    told = {"class": "AdamW", "betas": [0.9, 0.99]}
    hp = HyperParameters("adamw", lr=1e-2, weight_decay=0.1, momentum=0.9)
    plan = Schedule.constant(hp, 100)
    products = pulled_adam(settings)[:, :6]
    records = read(write_run({"head": products}, settings, optimizer=told, kind="plain"))
    with pytest.raises(InvalidArgument, match=r"needs group=.*head"):
        forecast(plan, pull=records)
    with pytest.raises(InvalidArgument, match="products=7"):
        forecast(plan, pull=records, group="head")
