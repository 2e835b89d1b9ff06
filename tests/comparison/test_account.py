"""What rows and words say of a norm now, on walks whose truth is known."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion.comparison import compare
from spherical_motion.records import RunWriter, read
from spherical_motion.vocabulary import EventKind, Suspect, VerdictKind

ADAMW = {"class": "AdamW", "betas": [0.9, 0.999]}


def plain(write_run, settings, kappa=0.0, **kwargs):
    return compare(
        write_run({"head": pulled_sgd(settings, kappa, **kwargs)}, settings, kind="plain")
    )


def rate_in(words: str, before: str) -> float:
    """The percentage that follows some words, as a share of the norm in a step."""
    found = re.search(re.escape(before) + r" ([\d.]+)% per ([\d,]+) steps", words)
    assert found, words
    return float(found[1]) / 100 / int(found[2].replace(",", ""))


def test_the_words_are_of_the_last_quarter_and_not_of_the_start(write_run) -> None:
    settings = constant(0.01, 0.02, 0.0, 4000)
    row = plain(write_run, settings, lambda step: -0.2 if step < 1000 else 0.0)["head"]
    assert row.tug.window == 998
    assert row.pull == pytest.approx(0.02, rel=1e-9)
    assert row.words.startswith("In the last 998 steps weight decay pulled")
    assert "the loss did not change that" in row.words
    assert "Nothing holds" not in row.words
    assert row.tug.terms == 3995
    # Over the whole stage the loss outweighed the decay.
    assert row.tug.balance.value == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("steps", "momentum", "window"), [(400, 0.0, 98), (100, 0.0, 50), (300, 0.9, 100)]
)
def test_now_is_long_enough_for_the_law(write_run, steps, momentum, window) -> None:
    row = plain(write_run, constant(0.01, 0.02, momentum, steps))["head"]
    assert row.tug.window == window


def test_a_pull_that_may_be_zero_is_not_called_outward(write_run) -> None:
    chance = np.random.default_rng(3).standard_normal(4000)
    settings = constant(0.01, 0.01, 0.0, 4000)
    row = plain(write_run, settings, lambda step: -0.01005 + 0.01 * chance[step])["head"]
    low, high = row.pull_interval
    assert low < 0 < high
    assert row.words.endswith("The pull is too close to 0 to say whether this norm will settle.")
    assert "Nothing holds" not in row.words
    assert "outweighs" not in row.words
    assert "more than your decay pulls" in row.words


def test_more_than_all_of_the_decay_is_not_called_cancelled(write_run) -> None:
    chance = np.random.default_rng(3).standard_normal(4000)
    settings = constant(0.01, 0.01, 0.0, 4000)
    row = plain(write_run, settings, lambda step: -0.0102 + 0.01 * chance[step])["head"]
    low, high = row.pull_interval
    assert low < 0 < high
    assert row.tug.forces.loss < -1.005 * row.tug.forces.decay
    assert ", more than your decay pulls." in row.words
    assert "cancelled" not in row.words


def test_a_loss_that_pushes_harder_than_the_decay_outweighs_it(write_run) -> None:
    row = plain(write_run, constant(0.01, 0.01, 0.9, 800), -0.015)["head"]
    assert "The loss outweighs your decay: decay only slows the growth." in row.words
    assert "cancelled" not in row.words
    assert row.words.endswith("Nothing holds this norm.")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_growth_in_column_words_and_forces_is_the_growth_of_the_norm(write_run, momentum) -> None:
    settings = constant(0.05, 0.001, momentum, 1200)
    comparison = plain(write_run, settings, -0.004, norm0=0.3)
    row, window = comparison["head"], comparison["head"].tug.window
    records = comparison.records
    truth = math.log(records.norm_after()[-1, 0] / records.norm()[-window, 0]) / window
    assert row.tug.forces.growth == pytest.approx(truth, rel=1e-12)
    assert row.growth == pytest.approx(2 * truth, rel=1e-12)
    assert rate_in(row.words, "norm grew by") == pytest.approx(truth, rel=0.05)
    forces = row.tug.forces
    parts = forces.turning - forces.decay - forces.loss
    assert parts == pytest.approx(truth, rel=1e-9)


def test_a_norm_that_only_the_loss_moves_grows_by_its_closed_form(write_run) -> None:
    settings = constant(0.01, 0.0, 0.0, 400)
    row = plain(write_run, settings, -0.3, noise=0.0)["head"]
    assert row.growth == pytest.approx(2 * math.log1p(0.01 * 0.3), rel=1e-9)
    assert row.tug.forces.loss == pytest.approx(-0.003, rel=1e-9)


@pytest.mark.parametrize("told", [{"class": "SGD"}, ADAMW], ids=["SGD", "AdamW"])
def test_equal_settings_have_equal_decay_whatever_the_norm_does(write_run, told) -> None:
    settings = [(0.01 * (1 + math.cos(math.pi * t / 900)), 0.1, 0.9) for t in range(900)]
    walk = pulled_sgd if told["class"] == "SGD" else pulled_adam
    products = {name: walk(settings, kappa) for name, kappa in (("up", -0.3), ("down", 0.3))}
    rows = list(compare(write_run(products, settings, optimizer=told, numel=200, kind="plain")))
    assert rows[0].growth > 0 > rows[1].growth
    late = [lr for lr, *_ in settings[-rows[0].tug.window :]]
    share = 0.1 if told["class"] == "SGD" else 1.0
    for row in rows:
        assert row.tug.forces.decay == pytest.approx(0.1 * np.mean(late) / share, rel=1e-9)


def test_all_rows_of_a_table_have_one_unit(write_run) -> None:
    settings = constant(0.01, 0.01, 0.0, 800)
    slow = {"slow": pulled_sgd(settings, noise=0.1)}
    fast = {"fast": pulled_sgd(settings, -0.2, noise=0.1)}
    for products, unit in ((slow, "per 1,000 steps"), (slow | fast, "per 100 steps")):
        for row in compare(write_run(products, settings, kind="plain")):
            assert unit in row.words
            assert len(set(re.findall(r"per [\d,]+ steps", row.words))) == 1


def test_decay_by_hand_is_seen_between_the_steps_and_is_an_alarm(write_run) -> None:
    settings = constant(0.05, 0.0, 0.9, 600)
    comparison = plain(write_run, settings, -0.002, write=lambda step: 1 - 1e-3)
    row = comparison["head"]
    assert row.verdict.kind is VerdictKind.WEIGHTS_WRITTEN
    assert row.verdict.reason == (
        "the weights were written between steps, at steps 1, 2, 3, ... (599 of 599), by 0.1% of "
        "the norm each (9.9% of a step's length)"
    )
    assert row.verdict.suspect is Suspect.WEIGHTS_WRITTEN
    assert comparison.alarms == (row,)
    assert "Pull and turning do not explain it" in row.words
    assert "Nothing holds" not in row.words


def test_one_write_is_enough_and_to_round_the_weights_once_more_is_one(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 600)
    once = plain(write_run, settings, write=lambda step: 2.0 if step == 400 else 1.0)["head"]
    assert "at step 401 (1 of 599), by 100% of the norm" in once.verdict.reason
    rounded = plain(write_run, settings, write=lambda step: 1 + 6e-8 * (-1) ** step)["head"]
    assert rounded.verdict.kind is VerdictKind.WEIGHTS_WRITTEN
    assert rounded.tug.written == 0  # too little to spoil the account of the norm
    assert plain(write_run, settings)["head"].verdict.kind is VerdictKind.IN_BALANCE


def test_one_write_is_an_alarm_for_a_certified_group_too(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 1500)
    products = pulled_sgd(settings, write=lambda step: 1.01 if step == 1000 else 1.0)
    row = compare(write_run({"conv": products}, settings))["conv"]
    assert row.verdict.reason == (
        "the weights were written between steps, at step 1,001 (1 of 1,499), by 1% of "
        "the norm each (22% of a step's length)"
    )
    assert row.verdict.kind is VerdictKind.WEIGHTS_WRITTEN
    assert row.alarm


def test_a_rescaling_that_is_on_record_is_no_foreign_write(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 600)
    products = pulled_sgd(settings, write=lambda step: 0.5 if step == 400 else 1.0)
    run = write_run({"head": products}, settings, kind="plain")
    with RunWriter(run, read(run).info, resume=True) as writer:
        writer.event(EventKind.RESCALED, 401, groups=["head"], factor=0.5)
    assert compare(run)["head"].tug.written == 0


@pytest.mark.parametrize("skipped", [1, 2])
def test_steps_that_the_optimizer_skipped_are_left_out_and_the_law_is_chained(
    write_run, skipped
) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    row = plain(write_run, settings, -0.002, skips=lambda step: step % 3 < skipped)["head"]
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert row.balance == pytest.approx(1.0, abs=1e-9)
    assert row.tug.idle == pytest.approx(skipped / 3, abs=0.01)
    assert f"(no gradient in {row.tug.idle:.0%} of them)" in row.words
    # Rates are per step of training, also those that the optimizer skipped.
    decay = (1 - row.tug.idle) * 0.05 * 0.01 / 0.1
    assert row.tug.forces.decay == pytest.approx(decay, rel=1e-9)
    # The walk of the steps that count is the same as without skipping.
    alone = plain(write_run, constant(0.05, 0.01, 0.9, 300 * (3 - skipped)), -0.002)
    assert alone.records.norm()[-1, 0] != 0


def test_young_adam_that_does_not_fit_waits_for_the_eighth_product(write_run) -> None:
    settings = constant(5e-3, 0.1, 0.9, 400)
    products = {
        "head": pulled_adam(settings, -0.6, beta2=0.999, size=lambda step: math.exp(-step / 100))
    }
    rows = [
        compare(
            write_run(
                {name: array[:, :count] for name, array in products.items()},
                settings, optimizer=ADAMW, numel=200, kind="plain",
            )
        )["head"]
        for count in (7, 8)
    ]  # fmt: skip
    assert rows[1].balance == pytest.approx(1.0, abs=1e-9)
    assert rows[1].verdict.kind is VerdictKind.IN_BALANCE
    low, high = rows[0].balance_interval
    assert high < 0.95 or low > 1.05, rows[0].verdict
    assert rows[0].verdict.kind is VerdictKind.NO_PREDICTION
    assert "in the first 1/(1 - β2) = 1,000 steps" in rows[0].verdict.reason
    assert "products=8 measures it" in rows[0].verdict.reason


def test_an_optimizer_is_called_by_its_own_name(write_run) -> None:
    rng, w = np.random.default_rng(0), np.ones(60)
    square, rows = np.zeros(60), []
    settings = constant(1e-3, 0.1, 0.0, 300)
    for lr, decay, _ in settings:
        g = rng.standard_normal(60)
        x = g + decay * w
        square = 0.99 * square + 0.01 * x * x
        p = 1.0 / (np.sqrt(square) + 1e-8)
        d = -lr * p * x
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g, w @ (p * x)])
        w = w + d
    told = {"class": "RMSprop", "alpha": 0.99}
    run = write_run({"head": np.array(rows)}, settings, optimizer=told, kind="plain")
    row = compare(run)["head"]
    assert row.verdict.kind is VerdictKind.IN_BALANCE
    assert "because RMSprop divides the sum of both by the size of the gradient" in row.words


def test_an_unknown_optimizer_is_named_in_a_few_words(write_run) -> None:
    settings = constant(0.1, 0.0, 0.0, 300)
    run = write_run(
        {"head": pulled_sgd(settings)}, settings, optimizer={"class": "Adadelta"}, kind="plain"
    )
    row = compare(run)["head"]
    assert str(row.verdict) == "no prediction: no balance law is known for Adadelta"
    assert row.words.endswith("What pulls it is unknown: no balance law is known for Adadelta.")
    assert row.growth > 0


def test_two_groups_are_both_and_one_step_is_a_step(write_run) -> None:
    settings = constant(0.1, 0.02, 0.9, 400)
    products = {name: pulled_sgd(settings, seed=seed) for seed, name in enumerate("ab")}
    findings = compare(write_run(products, settings, kind="plain")).findings
    assert findings[0].startswith("Stage 1 (lr 0.1): both groups are in balance")


def test_a_rate_of_zero_is_named(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 300) + constant(0.0, 0.01, 0.9, 300)
    row = compare(write_run({"head": pulled_sgd(settings, 0.001)}, settings, kind="plain"))["head"]
    assert "the learning rate is 0" in row.words
