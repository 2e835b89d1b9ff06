"""Steps at which a group stands still say nothing of how it turns: the others are judged alone."""

from __future__ import annotations

import numpy as np
import pytest
from motions import motions_of
from simulated import constant, simulate_sgd

from spherical_motion.comparison.evidence import Settled
from spherical_motion.comparison.gathering import gather
from spherical_motion.comparison.ladder import judge
from spherical_motion.vocabulary import HyperParameters, Stage

SETTINGS = (0.1, 5e-2, 0.9)
HP = HyperParameters("sgd", lr=0.1, weight_decay=5e-2, momentum=0.9)
STEPS = 900


def gathered(directory, products: np.ndarray, settings, kind: str = "scale"):
    found = motions_of(directory, {"conv": products}, settings, kind=kind)["conv"]
    return gather(found, Stage(0, len(products), HP)), found


def with_pauses(products: np.ndarray, pauses: list[tuple[int, int]], kind: str):
    """The same steps with stretches between them in which the weights stand still."""
    rows, settings = list(products), constant(*SETTINGS, len(products))
    for at, count in sorted(pauses, reverse=True):
        ww, gg = products[at][0], products[at][4]
        still = {
            "none": [ww, 0.0, 0.0, np.nan, np.nan, np.nan],
            "rate zero": [ww, 0.0, 0.0, 0.0, gg, 0.0],
        }[kind]
        rows[at:at] = [still] * count
        lr = 0.0 if kind == "rate zero" else SETTINGS[0]
        settings[at:at] = [(lr, *SETTINGS[1:])] * count
    return np.array(rows), settings


@pytest.mark.parametrize("kind", ["none", "rate zero"])
@pytest.mark.parametrize("pauses", [[(500, 300)], [(20, 100), (450, 50), (700, 400)]], ids=str)
def test_the_ratio_is_that_of_the_moving_steps(tmp_path, kind, pauses) -> None:
    products = simulate_sgd(constant(*SETTINGS, STEPS), norm0=1.0, seed=1)
    alone, _ = gathered(tmp_path / "alone", products, constant(*SETTINGS, STEPS))
    paused, _ = gathered(tmp_path / "paused", *with_pauses(products, pauses, kind))
    assert isinstance(alone, Settled)
    assert isinstance(paused, Settled)
    assert paused.judged == alone.judged
    assert paused.measured == pytest.approx(alone.measured, rel=1e-12)
    assert paused.ratio.value == pytest.approx(alone.ratio.value, rel=1e-9)
    assert paused.ratio.low == pytest.approx(alone.ratio.low, rel=1e-6)
    assert paused.lasted == alone.lasted
    assert paused.rest.steps_needed == pytest.approx(alone.rest.steps_needed, rel=1e-9)
    assert 0.9 < paused.ratio.value < 1.1
    assert paused.samples == alone.samples + sum(count for _, count in pauses)
    assert paused.stage.steps == STEPS + sum(count for _, count in pauses)


@pytest.mark.parametrize("kind", ["none", "rate zero"])
def test_plain_weights_are_judged_by_the_moving_steps(tmp_path, kind) -> None:
    products = simulate_sgd(constant(*SETTINGS, STEPS), seed=2)
    alone, _ = gathered(tmp_path / "alone", products, constant(*SETTINGS, STEPS), "plain")
    paused, _ = gathered(
        tmp_path / "paused", *with_pauses(products, [(600, 300)], kind), kind="plain"
    )
    assert paused.measured == pytest.approx(alone.measured, rel=1e-12)
    assert paused.judged == alone.judged
    assert paused.tug.pull.value == pytest.approx(alone.tug.pull.value, rel=1e-2)
    assert paused.tug.balance.value == pytest.approx(alone.tug.balance.value, rel=1e-2)
    if kind == "rate zero":  # at steps without a gradient the rates are means over all steps
        assert paused.tug.forces.decay == pytest.approx(alone.tug.forces.decay, rel=2e-2)


def test_the_stretch_is_told_and_the_verdict_is_that_of_the_rest(tmp_path) -> None:
    products = simulate_sgd(constant(*SETTINGS, STEPS), norm0=1.0, seed=1)
    rows, settings = with_pauses(products, [(500, 300)], "none")
    alone, _ = gathered(tmp_path / "alone", products, constant(*SETTINGS, STEPS))
    evidence, found = gathered(tmp_path / "paused", rows, settings)
    assert judge(evidence).kind is judge(alone).kind
    assert found.idle.sum() == 300
