"""Each sentence about a norm holds on walks whose truth is known."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from comparison.test_verdicts import PLAIN, evidence
from driven_weights import leaning, products
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion.comparison import TugOfWar, compare, judge
from spherical_motion.estimates import Estimate
from spherical_motion.vocabulary import HyperParameters, VerdictKind


def row_of(write_run, settings, kappa=0.0, kind="plain", **kwargs):
    walked = pulled_sgd(settings, kappa, **kwargs)
    return compare(write_run({"head": walked}, settings, kind=kind))["head"]


def test_a_write_long_ago_does_not_withhold_the_account_of_now(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 1200)
    told = {"write": lambda step: 1.2 if step == 300 else 1.0}
    row = row_of(write_run, settings, -0.004, **told)
    assert row.tug.written == 1
    assert row.tug.forces.decay == pytest.approx(0.05 * 0.01 / 0.1, rel=1e-9)
    assert row.tug.forces.loss == pytest.approx(-0.4 * row.tug.forces.decay, rel=1e-9)
    assert abs(row.tug.forces.unexplained) < 1e-12
    assert ": 40% of your decay is cancelled." in row.words
    assert "do not explain" not in row.words


@pytest.mark.parametrize("at", [950, 1000, 1190])
def test_a_write_among_the_last_steps_withholds_it(write_run, at) -> None:
    settings = constant(0.05, 0.01, 0.9, 1200)
    row = row_of(write_run, settings, -0.004, write=lambda step: 1.2 if step == at else 1.0)
    assert "Pull and turning do not explain it: the weights were written" in row.words
    assert "cancelled" not in row.words


def test_a_gradient_that_stopped_comes_first_and_what_was_before_it_second(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    stop = {"skips": lambda step: step >= 600}
    for kind in ("plain", "scale"):
        row = row_of(write_run, settings, -0.004, kind, **stop)
        assert (row.tug.stopped, row.tug.until) == (300, 600)
        assert row.words.startswith(
            "Its gradient stopped 300 steps before the end, and the optimizer has not moved it "
            "since. In the 137 steps before that, weight decay pulled this layer inward by 50% "
        )
        assert "In the last" not in row.words


@pytest.mark.parametrize("kappa", [-0.015, -0.01])
def test_a_norm_that_was_stopped_is_not_foreseen(write_run, kappa) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    row = row_of(write_run, settings, kappa, skips=lambda step: step >= 600)
    assert "Nothing holds" not in row.words
    assert "will settle" not in row.words


def test_a_gradient_that_stopped_in_the_start_of_a_stage_is_named(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 600)
    row = row_of(write_run, settings, skips=lambda step: step >= 20)
    assert row.tug.stopped == 580
    assert row.words == (
        "Its gradient stopped 580 steps before the end, and the optimizer has not moved it since."
    )


def test_weights_without_a_gradient_that_something_writes_are_not_called_still(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    told = {"skips": lambda step: step >= 600, "write": lambda step: 0.999 if step > 700 else 1.0}
    # `pulled_sgd` writes nothing at the steps that it skips, so the norms are put in by hand.
    walked = pulled_sgd(settings, **told)
    walked[700:, 0] *= 0.998 ** (2 * (1 + np.arange(200)))
    row = compare(write_run({"head": walked}, settings, kind="plain"))["head"]
    assert row.words.startswith(
        "Its gradient stopped 300 steps before the end, and the optimizer has not moved it since; "
        "something else wrote these weights."
    )


def test_a_gradient_that_comes_rarely_has_not_stopped(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    row = row_of(write_run, settings, skips=lambda step: step % 40 >= 2)
    assert row.tug.stopped == 0
    assert "stopped" not in row.words


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (-0.004, ", and the loss did not change that."),
        (0.004, ", and the loss did not change that."),
        (-0.02, ": 2% of your decay is cancelled."),
        (0.02, " and the loss by another "),
    ],
)
def test_a_share_that_rounds_to_nothing_is_called_nothing(write_run, share, said) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    words = row_of(write_run, settings, share * 0.01).words
    assert said in words
    assert "0% of your decay" not in words.replace("10%", "")


def parts_said(words: str) -> list[float]:
    """The parts that a sentence names, in percent, outward above zero, and then the growth."""
    patterns = {
        r"decay pulled this layer inward by ([\d.]+)%": -1,
        r"the loss by another ([\d.]+)%": -1,
        r"the loss pushed it outward by ([\d.]+)%": 1,
        r"Turning pushed it outward by ([\d.]+)%": 1,
        r"The rest moved it inward by ([\d.]+)%": -1,
        r"The parts leave ([\d.]+)%": 0,
        r"shrank by ([\d.]+)%": -1,
        r"grew by ([\d.]+)%": 1,
    }
    found = []
    for pattern, sign in patterns.items():
        if match := re.search(pattern, words):
            found.append(sign * float(match[1]))
    return found


@pytest.mark.parametrize("kappa", [-0.00995, -0.0099, -0.0095, 0.0, 0.05])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2, 1.0])
def test_the_parts_that_are_said_add_up_to_the_growth(write_run, kappa, noise) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    row = row_of(write_run, settings, kappa, noise=noise)
    *parts, growth = parts_said(row.words)
    # Each number has two digits, so that half of the last one may be lost.
    lost = sum(0.5 * 10 ** (np.floor(np.log10(abs(x))) - 1) for x in (*parts, growth) if x)
    lost += 0.02 * max(abs(sum(parts)), abs(growth))
    assert abs(sum(parts) - growth) <= lost * 1.01, row.words


def test_a_norm_that_stays_is_not_said_to_be_in_doubt(write_run) -> None:
    chance = np.random.default_rng(3).standard_normal(8000)
    settings = constant(0.01, 0.01, 0.0, 8000)
    row = row_of(write_run, settings, lambda step: -0.00999 + 0.02 * chance[step], noise=0.01)
    low, high = row.pull_interval
    assert low < 0 < high
    assert row.tug.window == 1998
    assert "hardly moved" in row.words
    assert "will settle" not in row.words


@pytest.mark.parametrize(("kappa", "span"), [(0.0, 100), (0.02, 10), (1.0, 1)])
def test_no_norm_shrinks_by_more_than_all_of_it(write_run, kappa, span) -> None:
    settings = constant(0.05, 0.01, 0.9, 300)
    row = row_of(write_run, settings, kappa, noise=0.0)
    unit = f"per {span} steps" if span > 1 else "per step"
    assert unit in row.words
    shrank = re.search(r"shrank by ([\d.]+)% per", row.words)
    assert shrank
    assert float(shrank[1]) <= 100


def approximate_of(**kwargs):
    tug = TugOfWar(unknown="", neglects="how the updates pull on the norm", **kwargs)
    return judge(evidence(group=PLAIN, tug=tug, prediction_error=0.6, ratio=tug.balance)).reason


def test_an_approximate_prediction_that_misses_is_not_called_good() -> None:
    said = "is good to a factor of 1.6"
    assert said in approximate_of(balance=Estimate(0.9, 0.9 / 1.6, 0.9 * 1.6))
    misses = approximate_of(balance=Estimate(4.6, 4.6 / 1.6, 4.6 * 1.6))
    assert said not in misses
    assert "and misses by more than the factor of 1.6 to which it is usually good" in misses


def test_a_row_without_a_prediction_has_none_in_its_columns(write_run) -> None:
    settings = constant(5e-3, 0.1, 0.9, 400)
    fading = {"beta2": 0.999, "size": lambda step: math.exp(-step / 100)}
    told = {"class": "AdamW", "betas": [0.9, 0.999]}
    walked = pulled_adam(settings, -0.6, **fading)
    for count, kind in ((7, VerdictKind.NO_PREDICTION), (8, VerdictKind.IN_BALANCE)):
        run = write_run(
            {"head": walked[:, :count]}, settings, optimizer=told, numel=200, kind="plain"
        )
        row = compare(run)["head"]
        assert row.verdict.kind is kind
        known = [math.isfinite(x) for x in (row.predicted, row.ratio, *row.interval)]
        assert known == [kind is VerdictKind.IN_BALANCE] * 4
        assert math.isfinite(row.balance)  # the reason speaks of it
        assert math.isfinite(row.measured)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_growth_of_a_row_is_that_of_its_steps(write_run, momentum) -> None:
    settings = constant(0.05, 0.01, momentum, 900)
    run = write_run({"head": pulled_sgd(settings, -0.02)}, settings, kind="plain")
    comparison = compare(run)
    tug = comparison["head"].tug
    each = comparison.records.growth()[tug.until - tug.window : tug.until, 0]
    assert comparison["head"].growth == pytest.approx(np.log1p(each).mean(), rel=1e-9)


def test_dampening_weakens_decay_in_the_pull(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    hp = HyperParameters("sgd", lr=0.05, weight_decay=0.01, momentum=0.9, dampening=0.5)
    gram = products(hp, settings, leaning(correlated=0.0), norm0=1.0)
    told = {"class": "SGD", "dampening": 0.5}
    row = compare(write_run({"w": gram.to_array()}, settings, optimizer=told, kind="plain"))["w"]
    assert row.balance == pytest.approx(1.0, abs=1e-6)
    own = row.pull * row.decay_share
    assert own == pytest.approx(0.5 * 0.01, rel=1e-9)
    assert row.tug.forces.decay == pytest.approx(0.05 * 0.5 * 0.01 / 0.1, rel=1e-9)


def test_the_last_steps_of_a_stage_that_is_over_are_called_so(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 600) + constant(0.01, 0.01, 0.9, 600)
    stop = {"skips": lambda step: 400 <= step < 600}
    for how, first in (
        ({}, "In the last 137 steps of this stage weight decay pulled"),
        (stop, "Its gradient stopped 200 steps before the end of this stage, and the optimizer "),
    ):
        run = write_run({"head": pulled_sgd(settings, **how)}, settings, kind="plain")
        comparison = compare(run)
        assert comparison["head", 1].words.startswith(first)
        assert comparison["head", 2].words.startswith("In the last 137 steps weight decay pulled")


def test_nothing_is_foreseen_of_a_stage_that_is_over(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 600) + constant(0.01, 0.01, 0.9, 600)
    run = write_run({"head": pulled_sgd(settings, -0.015)}, settings, kind="plain")
    comparison = compare(run)
    assert comparison["head", 1].words.endswith("Nothing held this norm.")
    assert comparison["head", 2].words.endswith("Nothing holds this norm.")
