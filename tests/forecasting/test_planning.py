"""Settings found for a wish give that wish, and the rules for a larger batch do what they must."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.forecasting import (
    scale_batch,
    settings_for_angle,
    settings_for_time_constant,
)
from spherical_motion.vocabulary import HyperParameters

GROUP = {"numel": 1e4, "unit_grad_rms": 0.1, "correlation": 39.0}
OPTIMIZERS = {
    "sgd": HyperParameters("sgd", 0.1, 0.0, 0.9),
    "nesterov": HyperParameters("sgd", 0.1, 0.0, 0.9, nesterov=True),
    "adamw": HyperParameters("adamw", 1e-3, 0.0, 0.9),
    "lion": HyperParameters("lion", 1e-4, 0.0, betas=(0.9, 0.99)),
    "muon": HyperParameters("muon", 0.02, 0.0, 0.95),
    "adam": HyperParameters("adam", 1e-3, 0.0, 0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_pair_has_the_wanted_angle(name: str) -> None:
    for s in settings_for_angle(OPTIMIZERS[name], 2e-3, **GROUP):
        assert s.angle == pytest.approx(2e-3, rel=1e-9)
        assert s.weight_decay > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_pair_has_the_wanted_time_constant(name: str) -> None:
    for s in settings_for_time_constant(OPTIMIZERS[name], 5_000, **GROUP):
        assert s.time_constant == pytest.approx(5_000, rel=1e-9)


@given(st.floats(1e-5, 0.1), st.floats(0.0, 0.99))
def test_angle_and_pace_are_one_wish(angle: float, momentum: float) -> None:
    hp = HyperParameters("sgd", 0.1, 0.0, momentum)
    for s in settings_for_angle(hp, angle, lrs=[0.01, 0.1]):
        assert s.time_constant * angle**2 == pytest.approx(
            (1 - momentum) / (2 * (1 + momentum)), rel=2e-3
        )
        assert s.lr * s.weight_decay == pytest.approx((1 + momentum) * (1 - math.cos(angle)))


def test_with_decoupled_decay_too() -> None:
    for s in settings_for_angle(OPTIMIZERS["adamw"], 3e-3):
        assert s.time_constant * 9e-6 == pytest.approx(0.1 / 1.9, rel=1e-3)


def test_adam_with_l2_is_not_a_matter_of_the_product_alone() -> None:
    pairs = settings_for_angle(OPTIMIZERS["adam"], 2e-3, **GROUP)
    products = [s.lr * s.weight_decay for s in pairs]
    assert max(products) > 50 * min(products)


@given(st.floats(1.01, 64.0))
def test_linear_scaling_keeps_what_an_epoch_does(factor: float) -> None:
    hp = HyperParameters("sgd", 0.1, 1e-4, 0.9)
    now, linear, root, constant = scale_batch(hp, factor, steps_per_epoch=5000)
    assert linear.setting.angle == pytest.approx(now.setting.angle * math.sqrt(factor), rel=1e-3)
    assert linear.epoch_angle == pytest.approx(now.epoch_angle, rel=1e-9)
    assert linear.time_constant_epochs == pytest.approx(now.time_constant_epochs, rel=1e-9)
    assert root.setting.angle == pytest.approx(now.setting.angle * factor**0.25, rel=1e-3)
    assert root.time_constant_epochs == pytest.approx(now.time_constant_epochs * factor**0.5)
    assert constant.setting.angle == pytest.approx(now.setting.angle, rel=1e-9)
    assert constant.time_constant_epochs == pytest.approx(now.time_constant_epochs * factor)
    assert constant.epoch_angle < root.epoch_angle < linear.epoch_angle


def test_a_wish_out_of_reach_names_it() -> None:
    with pytest.raises(OutOfDomain, match=r"No weight decay gives adamw .* angle of 3 rad"):
        settings_for_angle(OPTIMIZERS["adamw"], 3.0)
    with pytest.raises(OutOfDomain, match=r"time constant of 0\.01 steps"):
        settings_for_time_constant(OPTIMIZERS["sgd"], 0.01)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda hp: settings_for_angle(hp, 0.0), OutOfDomain, r"angle=\.\.\.\).*got 0"),
        (lambda hp: settings_for_angle(hp, math.nan), OutOfDomain, "got nan"),
        (
            lambda hp: settings_for_time_constant(hp, -1.0),
            OutOfDomain,
            r"time_constant=.*> 0, got -1",
        ),
        (lambda hp: settings_for_angle(hp, 0.1, lrs=[0.1, -1.0]), InvalidArgument, "> 0, got"),
        (lambda hp: settings_for_angle(hp, 0.1, lrs=[]), InvalidArgument, "> 0, got"),
        (lambda hp: scale_batch(hp, 0.0, 100), OutOfDomain, r"factor=\.\.\.\)"),
        (lambda hp: scale_batch(hp, 2.0, math.inf), OutOfDomain, r"steps_per_epoch=\.\.\.\)"),
        (lambda hp: scale_batch(hp, 2.0, 100), OutOfDomain, "weight_decay=0"),
    ],
)
def test_bad_wishes(call, error, message: str) -> None:
    with pytest.raises(error, match=message):
        call(OPTIMIZERS["sgd"])


def test_muon_needs_the_correlation_of_its_steps() -> None:
    with pytest.raises(NoTheory, match="correlation"):
        settings_for_angle(OPTIMIZERS["muon"], 1e-3)
    muon = HyperParameters("muon", 0.02, 0.1, 0.95)
    assert theory.equilibrium_angle(muon, correlation=39.0) > 0
