"""One gradient that is many times as large as its neighbours, told from one that stays so."""

from __future__ import annotations

import numpy as np
import pytest
from faulty import sgd
from motions import motions_of, whole

from spherical_motion.comparison.laws import scale_changes, spike_of

STEPS, AT = 300, 150
SETTINGS = [(0.1, 5e-3, 0.9)] * STEPS
SLOW = [(1e-4, 5e-3, 0.9)] * STEPS
"""So slow that no gradient throws the weights."""


def motion(
    directory, factor: float, width: int = 1, noise: float = 0.0, seed: int = 0, settings=SETTINGS
):
    rng = np.random.default_rng(seed)
    usual = np.exp(noise * rng.standard_normal(STEPS))
    products = sgd(
        settings, size=lambda t: usual[t] * (factor if AT <= t < AT + width else 1.0), seed=seed
    )
    return motions_of(directory / "run", {"conv": products}, settings)["conv"], products


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("factor", [30.0, 1000.0])
def test_a_spike_is_named_with_its_step_and_what_it_did(tmp_path, factor, width, noise) -> None:
    found, products = motion(tmp_path, factor, width, noise)
    spike = spike_of(found, whole(found))
    assert (spike.step, spike.spikes) == (AT, 1)
    assert spike.factor == pytest.approx(factor, rel=3 * noise + 1e-6, abs=width * noise * factor)
    assert spike.left == pytest.approx(1.0, rel=2 * noise + 1e-6)
    ww, wd, dd = products[AT : AT + width, :3].T
    changes = np.sqrt((ww + 2 * wd + dd) / ww) - 1
    assert np.isclose(spike.grown, changes).any()
    assert scale_changes([found]) == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.0, 0.3, 0.8])
@pytest.mark.parametrize(("factor", "width"), [(1.0, 0), (1000.0, STEPS), (30.0, 50)])
def test_healthy_noise_and_a_lasting_change_are_no_spikes(
    tmp_path, factor, width, noise, seed
) -> None:
    found, _ = motion(tmp_path, factor, width, noise, seed, SLOW)
    assert spike_of(found, whole(found)) is None


def test_what_a_spike_leaves_behind_is_said(tmp_path) -> None:
    products = sgd(
        SETTINGS, size=lambda t: 1000.0 if t == AT else 1.0 if t < AT else 4.0, norm0=2.0
    )
    found = motions_of(tmp_path / "run", {"conv": products}, SETTINGS)["conv"]
    spike = spike_of(found, whole(found))
    assert (spike.step, spike.left) == (AT, pytest.approx(4.0))
    assert spike.factor == pytest.approx(1000.0)


def test_spikes_are_counted_and_the_largest_is_told(tmp_path) -> None:
    products = sgd(SETTINGS, size=lambda t: {60: 50.0, 120: 200.0, 200: 20.0}.get(t, 1.0))
    found = motions_of(tmp_path / "run", {"conv": products}, SETTINGS)["conv"]
    spike = spike_of(found, whole(found))
    assert (spike.step, spike.spikes, spike.factor) == (120, 3, pytest.approx(200.0))


@pytest.mark.parametrize("at", [0, 3, STEPS - 3])
def test_at_the_ends_of_a_stage_nothing_is_usual(tmp_path, at) -> None:
    products = sgd(SETTINGS, size=lambda t: 1000.0 if t == at else 1.0)
    found = motions_of(tmp_path / "run", {"conv": products}, SETTINGS)["conv"]
    assert spike_of(found, whole(found)) is None


@pytest.mark.parametrize("after", [1.0, 300.0])
def test_a_step_that_throws_the_weights_is_named_whatever_follows(tmp_path, after) -> None:
    """The gradients of a training that is lost are as large as the one that lost it."""
    products = sgd(SETTINGS, size=lambda t: 1.0 if t < AT else 900.0 if t == AT else after)
    found = motions_of(tmp_path / "run", {"conv": products}, SETTINGS)["conv"]
    spike = spike_of(found, whole(found))
    assert (spike.step, spike.spikes) == (AT, 1)
    assert spike.factor == pytest.approx(900.0)
    ww, wd, dd = products[AT, :3]
    assert spike.grown >= np.sqrt((ww + 2 * wd + dd) / ww) - 1 > 5.0
    assert spike.left == pytest.approx(after)
