"""Each sentence about a norm holds on walks whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from pulled import pulled_sgd
from simulated import constant

from spherical_motion.comparison import compare


def row_of(write_run, settings, kappa=0.0, kind="plain", **kwargs):
    products = pulled_sgd(settings, kappa, **kwargs)
    return compare(write_run({"head": products}, settings, kind=kind))["head"]


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
            "since. In the 137 steps before that weight decay pulled this layer inward by 50% "
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
    products = pulled_sgd(settings, **told)
    products[700:, 0] *= 0.998 ** (2 * (1 + np.arange(200)))
    row = compare(write_run({"head": products}, settings, kind="plain"))["head"]
    assert row.words.startswith(
        "Its gradient stopped 300 steps before the end, and the optimizer has not moved it since; "
        "something else wrote these weights."
    )


def test_a_gradient_that_comes_rarely_has_not_stopped(write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 900)
    row = row_of(write_run, settings, skips=lambda step: step % 40 >= 2)
    assert row.tug.stopped == 0
    assert "stopped" not in row.words
