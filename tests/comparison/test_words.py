"""Each sentence about a norm holds on walks whose truth is known."""

from __future__ import annotations

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
