"""A family from outside the package: predicted, judged and rescaled by its own rule."""

from __future__ import annotations

import dataclasses
import math

import pytest
from simulated import constant, simulate_sgd

import spherical_motion as smd
from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.forecasting import forecast, settings_for_angle
from spherical_motion.optim import equilibrium_norm_ratio
from spherical_motion.vocabulary import HyperParameters, Schedule, VerdictKind


class TripleDecay(theory.Family):
    """w ← (1 - 3ηλ)w - 2ηg, so that |w|² ← (1 - 3ηλ)²|w|² + 4η²L/|w|².

    By hand, to leading order: |w|⁴ loses 12ηλ of itself a step and gains 8η²L, a step has
    |d|²/|w|² = 4η²L/|w|⁴. At rest |w*|⁴ = 2ηL/(3λ) and Δ*² = 6ηλ.
    """

    name = "triple decay"
    optimizers = ("triple",)
    classes = ("TripleDecay", "TripleDecayFused")
    power = 4
    drive = "unit_grad_sq"

    def rate(self, s, facts):
        return 12.0 * s.lr * s.weight_decay

    def gain(self, s, facts):
        return 8.0 * s.lr**2

    def turn(self, s, facts):
        return 4.0 * s.lr**2

    def largest_intrinsic_lr(self, momentum):
        return 2.0 / 3.0


@pytest.fixture
def hp():
    with theory.register(TripleDecay()):
        yield HyperParameters("triple", lr=0.1, weight_decay=0.01)


def test_predictions_follow_from_its_rule(hp) -> None:
    assert theory.family_of(hp).name == "triple decay"
    angle = 2.0 * math.asin(math.sqrt(6.0 * 1e-3) / 2.0)
    assert theory.equilibrium_angle(hp) == pytest.approx(angle, rel=1e-14)
    assert theory.equilibrium_angle_approx(hp) == pytest.approx(math.sqrt(6e-3), rel=1e-14)
    # |w*|⁴ = 2·0.1·6/(3·0.01) = 40
    assert theory.equilibrium_norm(hp, unit_grad_sq=6.0) ** 4 == pytest.approx(40.0, rel=1e-14)
    assert theory.relaxation_rate(hp) == pytest.approx(0.012, rel=1e-14)
    assert theory.forgetting_rate(hp) == pytest.approx(0.003, rel=1e-14)
    assert theory.relaxing_power(hp) == 4
    assert theory.excess_of(hp, 80.0**0.25, unit_grad_sq=6.0) == pytest.approx(2.0, rel=1e-14)
    # ln 10 / 0.012 = 191.9
    assert theory.steps_to_equilibrium(hp, lr_drop=10) == 192
    assert theory.has_law_of_motion(hp) is False
    with pytest.raises(NoTheory, match="triple decay steps over few lags"):
        theory.accumulated_angle(hp, 4)
    with pytest.raises(InvalidArgument, match=r"equilibrium_norm\(unit_grad_sq=.*for triple"):
        theory.equilibrium_norm(hp)
    with pytest.raises(OutOfDomain, match=r"< 0\.666667"):
        theory.equilibrium_angle(dataclasses.replace(hp, lr=70.0))


def test_plans_follow_from_its_rule(hp) -> None:
    plan = Schedule.step_decay(hp, steps=4000, milestones=[2000])
    first, second = forecast(plan, unit_grad_sq=6.0)
    assert first.norm_end**4 == pytest.approx(40.0, rel=1e-6)
    # The excess falls from 10 by e^{-0.0012·2000}.
    assert second.excess_end == pytest.approx(1.0 + 9.0 * math.exp(-2.4), rel=1e-6)
    (setting,) = settings_for_angle(hp, 0.06, lrs=[0.2])
    assert setting.weight_decay == pytest.approx((2 * math.sin(0.03)) ** 2 / 6 / 0.2, rel=1e-9)


def test_a_recorded_run_gets_a_verdict_and_another_rule_another(hp, write_run) -> None:
    # The same steps as SGD's at twice the rate and 1.5 times the decay.
    products = simulate_sgd(constant(0.2, 0.015, 0.0, 1200), norm0=(2 * 0.1 / 0.03) ** 0.25)
    settings = constant(0.1, 0.01, 0.0, 1200)
    run = write_run({"conv": products}, settings, optimizer={"class": "TripleDecayFused"})
    (row,) = smd.compare(run)
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert row.ratio == pytest.approx(1.0, abs=0.01)
    (other,) = smd.compare(write_run({"conv": products}, settings))  # read as SGD's
    # √(6ηλ) is measured where SGD has √(2ηλ).
    assert other.verdict.kind is not VerdictKind.IN_EQUILIBRIUM
    assert other.ratio == pytest.approx(math.sqrt(3.0), rel=0.02)


def test_weights_are_rescaled_by_its_rule(hp) -> None:
    lower = dataclasses.replace(hp, lr=0.01)
    assert equilibrium_norm_ratio(hp, lower) == pytest.approx(10.0**-0.25, rel=1e-14)


def test_names_are_known_while_it_is_registered() -> None:
    with pytest.raises(InvalidArgument, match="must be one of sgd"):
        HyperParameters("triple", lr=0.1)
    group = {"lr": 0.1, "weight_decay": 0.01}
    undo = theory.register(TripleDecay())
    found = HyperParameters.from_param_group("TripleDecay", group)
    assert (found.optimizer, found.decoupled) == ("triple", True)
    undo.close()
    assert HyperParameters.from_param_group("TripleDecay", group).optimizer == "other"
    with pytest.raises(InvalidArgument, match="must be one of sgd"):
        HyperParameters("triple", lr=0.1)
    undo.close()  # once more changes nothing


def test_what_is_known_already_is_refused() -> None:
    class Named(TripleDecay):
        optimizers = ("new", "sgd")

    class Classed(TripleDecay):
        optimizers = ("new",)
        classes = ("AdamW",)

    with pytest.raises(InvalidArgument, match="optimizer 'sgd' is known already"):
        theory.register(Named())
    with pytest.raises(InvalidArgument, match="class 'AdamW' is known already"):
        theory.register(Classed())
    with pytest.raises(InvalidArgument, match="must be one of sgd"):  # nothing was left behind
        HyperParameters("new", lr=0.1)
    with theory.register(TripleDecay()), pytest.raises(InvalidArgument, match="'triple' is known"):
        theory.register(TripleDecay())
    with pytest.raises(InvalidArgument, match="an instance"):
        theory.register(TripleDecay)


def test_names_with_a_balance_law_alone_may_be_taken_over() -> None:
    class Named(TripleDecay):
        name = "a RAdam of our own"
        optimizers = ("radam",)
        classes = ("RAdam",)

    group = {"lr": 0.1, "weight_decay": 0.01, "betas": (0.9, 0.99)}
    before = HyperParameters.from_param_group("RAdam", group)
    law = theory.law_of(before)
    with theory.register(Named()):
        hp = HyperParameters.from_param_group("RAdam", group)
        assert (hp.optimizer, hp.decoupled) == ("radam", True)
        assert theory.family_of(hp).name == "a RAdam of our own"
        with pytest.raises(InvalidArgument, match="'radam' is known"):
            theory.register(type("Again", (TripleDecay,), {"optimizers": ("radam",)})())
    assert HyperParameters.from_param_group("RAdam", group) == before
    assert theory.law_of(before) is law
    with pytest.raises(NoTheory, match="no closed form"):
        theory.family_of(before)


def test_a_family_may_bring_its_own_balance_law(hp) -> None:
    with pytest.raises(NoTheory, match="no balance law here for triple"):
        theory.law_of(hp)

    class Weighed(TripleDecay):
        optimizers, classes = ("weighed",), ("Weighed",)
        balance_law = theory.law_of(HyperParameters("sgd", lr=0.1))

    with theory.register(Weighed()):
        weighed = HyperParameters("weighed", lr=0.1)
        assert theory.law_of(weighed) is Weighed.balance_law


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("optimizers", "triple", r"optimizers of 'triple decay' must be a tuple .* \('name',\)"),
        ("classes", "TripleDecay", "classes of 'triple decay' must be a tuple of names"),
        ("needs", ("beta",), "needs .* fields of theory.GroupFacts"),
        ("drive", "correlation", "drive .* must be one of unit_grad_sq, numel"),
    ],
)
def test_a_family_that_is_not_what_it_should_be_is_refused(attribute, value, words) -> None:
    family = type("Odd", (TripleDecay,), {attribute: value})()
    with pytest.raises(InvalidArgument, match=words):
        theory.register(family)
    with pytest.raises(InvalidArgument, match="must be one of sgd"):
        HyperParameters("triple", lr=0.1)


def test_a_fact_that_no_record_holds_is_said_and_does_not_end_the_comparison(write_run) -> None:
    family = type("Needy", (TripleDecay,), {"needs": ("correlation",)})()
    settings = constant(0.1, 0.01, 0.0, 300)
    with theory.register(family):
        run = write_run({"w": simulate_sgd(settings)}, settings, optimizer={"class": "TripleDecay"})
        (row,) = smd.compare(run)
    assert row.verdict.kind is VerdictKind.NO_THEORY
    assert "correlation=" in row.verdict.reason


def test_a_family_without_its_law_cannot_be_made() -> None:
    class Empty(theory.Family):
        name = "empty"
        optimizers = ("empty",)

    with pytest.raises(TypeError, match=r"gain.*turn"):
        Empty()
