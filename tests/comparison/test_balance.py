"""The balance law of runs whose pull is known, and what rows, verdicts and words say about them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from driven_weights import products
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion.comparison import compare
from spherical_motion.records import RunInfo, RunWriter
from spherical_motion.vocabulary import (
    HyperParameters,
    InvariantGroup,
    Slice,
    Suspect,
    VerdictKind,
)
from spherical_motion.vocabulary.gram import FIELDS

ADAMW = {"class": "AdamW", "betas": [0.9, 0.99]}
ADAM = {"class": "Adam", "betas": [0.9, 0.99]}


def adam_row(write_run, settings, kappa: float, *, products: int = 7, told=ADAMW, **kwargs):
    decoupled = told["class"] == "AdamW"
    walk = pulled_adam(settings, kappa, decoupled=decoupled, beta2=told["betas"][1], **kwargs)
    run = {"head": walk[:, :products]}
    return compare(write_run(run, settings, optimizer=told, numel=200, kind="plain"))["head"]


def plain_row(write_run, settings, kappa: float = 0.0, **kwargs):
    run = write_run({"head": pulled_sgd(settings, kappa, **kwargs)}, settings, kind="plain")
    return compare(run)["head"]


@pytest.mark.parametrize("kappa", [-0.015, 0.0, 0.03])
@pytest.mark.parametrize("norm0", [0.5, 3.0])
def test_sgd_is_in_balance_whatever_the_loss_pulls_and_wherever_the_norm_is(
    write_run, kappa, norm0
) -> None:
    settings = constant(0.1, 0.02, 0.9, 400)
    row = plain_row(write_run, settings, kappa, norm0=norm0)
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert row.balance == pytest.approx(1.0, abs=1e-9)
    assert row.ratio == row.balance
    assert row.predicted == pytest.approx(row.measured)
    assert row.pull == pytest.approx(0.02 + kappa, rel=1e-9)
    assert row.decay_share == pytest.approx(0.02 / (0.02 + kappa), rel=1e-9)
    assert not row.alarm


def test_the_four_forces_add_up_and_growth_is_that_of_the_norm(write_run) -> None:
    settings = constant(0.02, 0.001, 0.9, 2000)
    products = pulled_sgd(settings, 0.0004, norm0=2.0)
    row = compare(write_run({"head": products}, settings, kind="plain"))["head"]
    forces = row.tug.forces
    left = forces.turning - forces.decay - forces.loss - forces.change
    assert left == pytest.approx(forces.growth, rel=1e-9)
    assert forces.inward == pytest.approx(forces.decay + forces.loss, rel=1e-12)
    assert forces.loss / forces.decay == pytest.approx(0.4, rel=1e-6)
    # Heavy ball: decay shortens the weights by ηλ/(1 - α) a step.
    assert forces.decay == pytest.approx(0.02 * 0.001 / 0.1, rel=1e-12)
    squares, window = products[:, 0], row.tug.window
    assert window == 1949 // 4
    truth = math.log(squares[-1] / squares[-window]) / (window - 1)
    assert row.growth == pytest.approx(truth, rel=1e-2)
    assert forces.growth == row.growth / 2
    low, high = row.growth_interval
    assert low < row.growth < high


def test_without_decay_the_loss_alone_balances(write_run) -> None:
    settings = constant(0.1, 0.0, 0.9, 600)
    inward = plain_row(write_run, settings, 0.02)
    assert inward.verdict.kind is VerdictKind.IN_BALANCE
    assert inward.decay_share == 0.0
    assert "the loss alone pulled this layer inward by" in inward.words
    assert "Nothing holds" not in inward.words
    outward = plain_row(write_run, settings, -0.001)
    assert outward.verdict.kind is VerdictKind.IN_BALANCE
    assert "the loss alone pushed this layer outward by" in outward.words
    assert outward.words.endswith("Nothing holds this norm.")
    assert math.isnan(outward.decay_share)


def test_a_schedule_and_bursts_of_two_steps_change_nothing(write_run) -> None:
    settings = [(0.1 * (1 + math.cos(math.pi * t / 1000)), 0.02, 0.9) for t in range(1000)]
    products = {"head": pulled_sgd(settings, 0.01, norm0=2.0)}
    for steps in (None, [t for t in range(1000) if t % 10 < 2]):
        row = compare(write_run(products, settings, steps=steps, kind="plain"))["head"]
        assert row.verdict.kind is VerdictKind.IN_BALANCE
        assert row.balance == pytest.approx(1.0, abs=1e-9)
        assert row.pull == pytest.approx(0.03, rel=1e-9)


def test_steps_that_are_never_neighbours_have_no_balance_and_say_so(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 1000)
    products = {"head": pulled_sgd(settings, 0.01)}
    run = write_run(products, settings, steps=list(range(0, 1000, 5)), kind="plain")
    row = compare(run)["head"]
    assert row.verdict.kind is VerdictKind.NO_PREDICTION
    assert math.isnan(row.balance)
    assert "no step follows one that was recorded" in row.balance_unknown
    assert row.verdict.reason.startswith(row.balance_unknown)
    assert not row.alarm


@pytest.mark.parametrize(("momentum", "fewest"), [(0.9, 83), (0.5, 21)])
def test_a_stage_shorter_than_the_momentum_has_too_few_samples(write_run, momentum, fewest) -> None:
    short, enough = (
        plain_row(write_run, constant(0.1, 0.02, momentum, steps)) for steps in (fewest - 1, fewest)
    )
    assert short.verdict.kind is VerdictKind.TOO_FEW_SAMPLES
    assert short.verdict.reason == (
        f"{fewest - 1} steps; with momentum {momentum} the balance law needs at least {fewest}"
    )
    assert short.measured > 0
    assert enough.verdict.kind is VerdictKind.IN_BALANCE


def test_steps_that_are_not_those_of_the_settings_are_named_by_the_settings_they_have(
    write_run,
) -> None:
    settings = constant(0.1, 0.02, 0.9, 400)
    products = pulled_sgd(settings, 0.01)
    products[:, 3] += 0.05 * products[:, 0]  # the gradient that is recorded is not the one it got
    row = compare(write_run({"head": products}, settings, kind="plain"))["head"]
    assert row.verdict.kind is VerdictKind.STEP_DIFFERS
    assert row.verdict.suspect is Suspect.WRONG_SETTINGS
    assert row.alarm
    assert row.verdict.evidence["balance_high"] < 0.95
    assert "pushed" not in row.words
    assert "pulled" not in row.words
    assert row.words.endswith("Pull and turning do not explain it: the balance law does not hold.")


@pytest.mark.parametrize(
    ("kind", "decay", "defect", "loss"),
    [
        (VerdictKind.EPSILON_DOMINATED, 0.02, 1e-2, -0.004),
        (VerdictKind.NOT_SCALE_INVARIANT, 0.02, math.nan, 0.01),
        (VerdictKind.NO_WEIGHT_DECAY, 0.0, 1e-6, 0.0),
    ],
)
def test_a_certified_group_keeps_its_verdict_and_hears_that_the_balance_holds(
    write_run, kind, decay, defect, loss
) -> None:
    settings = constant(0.1, decay, 0.9, 800)
    products = {"conv": pulled_sgd(settings, loss)}
    row = compare(write_run(products, settings, defect=defect))["conv"]
    assert row.verdict.kind is kind
    assert ". The balance law holds to 0.1%" in row.verdict.reason
    assert row.balance == pytest.approx(1.0, abs=1e-9)


def test_findings_name_the_groups_whose_decay_the_loss_cancels(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 400)
    pulls = {"free": 0.0, "half": -0.012, "all": -0.03, "helped": 0.02}
    products = {name: pulled_sgd(settings, kappa) for name, kappa in pulls.items()}
    findings = compare(write_run(products, settings, kind="plain")).findings
    assert "all 4 groups are in balance: 1.00 of the angle that pull and growth" in findings[0]
    assert findings[-2] == "In all the loss outweighs weight decay."
    assert findings[-1] == "In half the loss cancels 60% of weight decay's pull."


def test_a_group_at_rest_is_judged_as_before_and_has_its_balance(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 1500)
    row = compare(write_run({"conv": pulled_sgd(settings)}, settings))["conv"]
    assert row.verdict.kind is VerdictKind.IN_EQUILIBRIUM
    assert row.ratio != row.balance == pytest.approx(1.0, abs=1e-9)
    assert row.decay_share == pytest.approx(1.0, rel=1e-9)
    assert "balance" not in row.verdict.reason


def test_the_first_steps_of_a_stage_are_left_out(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 500) + constant(0.01, 0.02, 0.9, 500)
    products = {"head": pulled_sgd(settings, 0.01)}
    comparison = compare(write_run(products, settings, kind="plain"))
    assert [row.tug.terms for row in comparison] == [449, 450]
    assert all(row.balance == pytest.approx(1.0, abs=1e-9) for row in comparison)
    assert comparison["head", 2].stage.start == 500


WORDS = {
    # kappa: what the words say of a decay of 0.001 at lr 0.1, which is 0.1% a 1,000 steps × 10
    -0.94e-3: "94% of your decay is cancelled.",
    -1.2e-3: "outward by 1.2%. The loss outweighs your decay: decay only slows the growth.",
    0.3e-3: " and the loss by another 0.3%.",
    0.0: "the loss did not change that.",
}


@pytest.mark.parametrize("kappa", WORDS)
def test_words_for_what_the_loss_does_to_the_decay(write_run, kappa) -> None:
    row = plain_row(write_run, constant(0.01, 0.001, 0.0, 800), kappa, norm0=1.0)
    # 0.01 × 0.001 a step
    start = "In the last 198 steps weight decay pulled this layer inward by 1% per 1,000 steps"
    assert row.words.startswith(start)
    assert WORDS[kappa] in row.words


def test_adamw_is_in_balance_with_the_pull_in_its_own_metric(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 1500)
    row = adam_row(write_run, settings, 0.05)
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert row.balance == pytest.approx(1.0, abs=0.02)
    low, high = row.balance_interval
    assert low < row.balance < high
    # Entries of the gradient have size 1, so that P is about 1 and the loss pulls by about 0.05.
    assert row.pull == pytest.approx(0.15, abs=0.02)
    assert row.decay_share == pytest.approx(0.1 / row.pull)
    assert row.tug.neglects == "the change of the preconditioner from step to step"


def test_the_interval_holds_what_a_young_preconditioner_may_do(write_run) -> None:
    slow = {"class": "AdamW", "betas": [0.9, 0.999]}
    row = adam_row(write_run, constant(1e-2, 0.1, 0.9, 200), 0.05, told=slow)
    low, high = row.balance_interval
    newest = (1.0 - 0.999) / (1.0 - 0.999**200)  # five times 1 - β2
    assert high - row.balance >= 8.0 * newest * row.tug.amplification * row.balance / 2.0
    assert row.balance - low >= 8.0 * newest * row.tug.amplification * row.balance / 2.0


def test_with_eight_products_adam_is_exact(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 800)
    row = adam_row(write_run, settings, 0.05, products=8)
    assert row.balance == pytest.approx(1.0, abs=1e-9)
    assert row.tug.neglects == ""
    forces = row.tug.forces
    left = forces.turning - forces.inward - forces.change
    assert left == pytest.approx(forces.growth, rel=1e-6)


def test_without_the_seventh_product_adam_has_no_balance_and_says_why(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 800)
    row = adam_row(write_run, settings, 0.05, products=6)
    assert row.verdict.kind is VerdictKind.NO_PREDICTION
    assert math.isnan(row.pull)
    assert "<w, Px>" in row.balance_unknown
    assert "What pulls it is unknown: the product <w, Px> was not measured." in row.words
    assert "this norm shrank by" in row.words


def test_adam_with_l2_cannot_tell_decay_from_loss(write_run) -> None:
    settings = constant(1e-2, 0.05, 0.9, 1500)
    row = adam_row(write_run, settings, 0.05, told=ADAM)
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert math.isnan(row.decay_share)
    assert row.pull == pytest.approx(0.1, abs=0.02)
    assert "their shares cannot be told apart, because Adam divides" in row.words


def test_a_preconditioner_that_changes_too_fast_is_refused_and_the_words_remain(write_run) -> None:
    settings = constant(1e-2, 0.1, 0.9, 800)
    fast = {"class": "AdamW", "betas": [0.9, 0.95]}
    row = adam_row(write_run, settings, 0.05, told=fast)
    assert math.isnan(row.balance)
    assert row.balance_unknown
    assert row.verdict.kind is VerdictKind.NO_PREDICTION
    assert "weight decay pulled this layer inward" in row.verdict.reason
    known = adam_row(write_run, settings, 0.05, told=fast, products=8)
    assert known.balance == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("told", [{"class": "SGD"}, ADAMW], ids=["SGD", "AdamW"])
def test_a_weight_that_decays_and_a_bias_that_does_not_are_balanced_together(
    tmp_path, told
) -> None:
    lr, decays, steps = 0.01, (0.1, 0.0), 800
    walk = pulled_sgd if told["class"] == "SGD" else pulled_adam
    parts = [walk(constant(lr, d, 0.9, steps), 0.03, seed=i) for i, d in enumerate(decays)]
    slices = (Slice("fc.weight", 0, 0, 4), Slice("fc.bias", 0, 0, 4))
    groups = tuple(told | {"optimizer": 0, "lr": lr, "weight_decay": d} for d in decays)
    groups = tuple(group | ({} if "betas" in group else {"momentum": 0.9}) for group in groups)
    info = RunInfo(
        groups=(InvariantGroup("fc", "plain", slices, (), 400),),
        param_groups=groups,
        slice_param_group=(0, 1),
        products=parts[0].shape[1],
    )
    with RunWriter(tmp_path / "run", info) as writer:
        for number, decay in enumerate(decays):
            writer.settings(0, number, (lr, decay, 0.9, told.get("betas", [0, None])[1]))
        for step in range(steps):
            writer.rows(step, np.stack([part[step] for part in parts]))
    row = compare(tmp_path / "run")["fc"]
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert row.balance == pytest.approx(1.0, abs=3e-3)
    # The decay of both is the mean of theirs with weights |w|².
    first, second = (part[-row.tug.window :, 0] for part in parts)
    mean = ((decays[0] * first + decays[1] * second) / (first + second)).mean()
    assert row.decay_share * row.pull == pytest.approx(mean, rel=1e-9)
    forces = row.tug.forces
    assert forces.decay / forces.inward == pytest.approx(row.decay_share, rel=1e-2)
    assert "Members differ in weight decay (0, 0.1)" in row.verdict.reason


def test_forces_weigh_growth_as_the_optimizers_own_law_does(write_run) -> None:
    """For NAdam f·s is twice (1 - β1)/(1 + β1) and more; the norm's rate says which is right."""
    settings = constant(0.003, 0.0, 0.9, 1500)
    hp = HyperParameters("nadam", lr=0.003, betas=(0.9, 0.999))
    rng = np.random.default_rng(0)
    gram = products(hp, settings, lambda t, w: rng.standard_normal(w.size), dimension=200)
    told = {"class": "NAdam", "betas": [0.9, 0.999]}
    walk = gram.to_array((*FIELDS, "wp"))
    run = write_run({"head": walk}, settings, optimizer=told, numel=200, kind="plain")
    row = compare(run)["head"]
    squares, forces = walk[-row.tug.window :, 0], row.tug.forces
    truth = math.log(squares[-1] / squares[0]) / (2.0 * (squares.size - 1))
    assert forces.growth == pytest.approx(truth, rel=0.02)
    # With f·s the turning would be less than half of this.
    assert abs(forces.unexplained) < 0.05 * forces.turning
    # β2 = .999: the interval is as wide as what the law leaves out.
    low, high = row.balance_interval
    assert high - low > 2.0 * 4.0 * 0.001 * row.balance / 2.0


def test_nadam_is_refused_where_its_preconditioner_is_fast(write_run) -> None:
    settings = constant(0.003, 0.0, 0.9, 600)
    hp = HyperParameters("nadam", lr=0.003, betas=(0.9, 0.95))
    rng = np.random.default_rng(0)
    gram = products(hp, settings, lambda t, w: rng.standard_normal(w.size), dimension=200)
    told = {"class": "NAdam", "betas": [0.9, 0.95]}
    walk = gram.to_array((*FIELDS, "wp"))
    run = write_run({"head": walk}, settings, optimizer=told, numel=200, kind="plain")
    row = compare(run)["head"]
    assert math.isnan(row.balance)
    assert "changes as fast as the average" in row.balance_unknown
