"""An optimizer of unknown rule: its angle follows from the recorded correlation of its updates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from wandering import Wandering

from spherical_motion import theory
from spherical_motion.comparison import Row, compare
from spherical_motion.comparison.memory import memory_of
from spherical_motion.monitor import Monitor
from spherical_motion.records import read
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice

LR, DECAY, PHI, LAGS = 0.1, 0.02, 0.8, 15
C = (1 + PHI) / (1 - PHI)
SEEN = 1 + 2 * PHI * (1 - PHI**LAGS) / (1 - PHI)
"""c as far as 15 lags show it."""


def wander(
    directory: Path, *, kind: str = "scale", say: bool = True, every: int | None = 100,
    steps: int = 1500, scale: float = 1.0, lr: float = LR,
) -> Path:  # fmt: skip
    """Record 400 weights that start at `scale` times their norm at rest."""
    torch.manual_seed(0)
    model = nn.Linear(20, 20, bias=False)
    rest = math.sqrt(LR * C / (2 * DECAY))  # the RMS of the entries
    with torch.no_grad():
        model.weight.normal_().mul_(scale * rest)
    optimizer = Wandering(model.parameters(), lr=lr, weight_decay=DECAY, momentum=PHI)
    if say:
        optimizer.param_groups[0]["decoupled_weight_decay"] = True
    s = Slice("weight", 0, 0, 20)
    group = InvariantGroup("fc", kind, (s,), ((s,),) if kind == "scale" else (), 400)
    with Monitor(model, optimizer, [group], directory, correlation_every=every, quiet=True):
        for _ in range(steps):
            optimizer.step()
    return directory


def row_of(directory: Path) -> Row:
    [row] = compare(directory)
    return row


def test_an_unknown_optimizer_turns_as_its_measured_correlation_says(tmp_path: Path) -> None:
    directory = wander(tmp_path / "run")
    series = read(directory).correlations("fc")
    assert series.steps.tolist() == list(range(0, 1500, 100))
    np.testing.assert_allclose(series.rho.mean(axis=0), PHI ** np.arange(LAGS + 1), atol=0.02)
    assert series.update_sq.mean() == pytest.approx(400, rel=0.03)
    memory = memory_of(read(directory), "fc")
    assert memory is not None
    assert memory.correlation == pytest.approx(SEEN, rel=0.02)
    assert memory.bursts == 14  # the burst of the very first steps is left out

    row = row_of(directory)
    hp = HyperParameters("other", LR, DECAY, PHI, decoupled=True)
    angle = theory.equilibrium_angle(hp, correlation=memory.correlation)
    assert row.predicted == pytest.approx(angle, rel=0.05)
    assert row.measured == pytest.approx(math.sqrt(2 * LR * DECAY / C), rel=0.02)
    assert row.ratio == pytest.approx(math.sqrt(SEEN / C), rel=0.02)
    assert row.interval[0] < 1 / 1.5
    assert row.interval[1] > 1.5
    assert row.verdict.evidence["prediction_error"] == memory.error > 0.5
    text = str(row.verdict.reason)
    assert "approximate" in text
    assert "14 bursts" in text


@pytest.mark.parametrize("scale", [0.4, 2.0])
def test_away_from_rest_growth_is_in_the_law(scale: float, tmp_path: Path) -> None:
    directory = wander(tmp_path / "run", kind="plain", scale=scale, steps=600)
    tug = row_of(directory).tug
    started = read(directory).norm()[:, 0]
    assert abs(math.log(started[-1] / started[0])) > 0.3
    assert tug.balance.value == pytest.approx(math.sqrt(SEEN / C), rel=0.05)
    assert tug.balance.high / tug.balance.low > 1.5**2
    # The law says nothing of what the loss pulls, and the words do not pretend to.
    assert math.isnan(tug.forces.loss)
    assert math.isnan(tug.pull.value)


def test_one_burst_in_so_many_steps(tmp_path: Path) -> None:
    counts = [
        len(read(wander(tmp_path / str(every), every=every, steps=450)).correlations("fc").steps)
        for every in (75, 150, 300)
    ]
    assert counts == [6, 3, 2]


def test_without_word_on_the_decay_nothing_is_predicted(tmp_path: Path) -> None:
    row = row_of(wander(tmp_path / "run", say=False, steps=300))
    assert row.balance_unknown == "no balance law is known for Wandering"
    assert "decoupled_weight_decay=True" in str(row.verdict.reason)
    assert math.isnan(row.predicted)
    assert row.verdict.evidence["prediction_error"] == 0.0


@pytest.mark.parametrize("kind", ["scale", "plain"])
def test_without_bursts_the_reason_says_how_to_record_them(kind: str, tmp_path: Path) -> None:
    row = row_of(wander(tmp_path / "run", kind=kind, every=None, steps=300))
    assert "watch(..., correlation_every=1000)" in str(row.verdict.reason)
    assert "must be finite" not in str(row.verdict.reason)


def test_correlations_of_an_optimizer_with_a_closed_form_change_nothing(tmp_path: Path) -> None:
    found = []
    for every in (None, 30):
        torch.manual_seed(0)
        model = nn.Linear(8, 8, bias=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.5, 0.9))
        s = Slice("weight", 0, 0, 8)
        group = InvariantGroup("fc", "scale", (s,), ((s,),), 64)
        directory = tmp_path / str(every)
        with Monitor(model, optimizer, [group], directory, correlation_every=every, quiet=True):
            for _ in range(60):
                model.weight.grad = torch.randn(8, 8)
                optimizer.step()
        found.append(str(compare(directory)).replace(str(directory), ""))
    assert len(read(directory).correlations("fc").steps) == 2
    assert found[0] == found[1]
