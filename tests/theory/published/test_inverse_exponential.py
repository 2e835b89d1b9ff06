from __future__ import annotations

import numpy as np
import pytest

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, OutOfDomain

DROPS = np.repeat([0.1, 0.01, 0.001], [600, 700, 500])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_there_and_back(momentum: float) -> None:
    decays = 5e-3 * (1.0 + 0.5 * np.sin(np.arange(DROPS.size) / 50.0))
    there = theory.exponential_schedule(DROPS, decays, momentum)
    back = theory.undo_exponential_schedule(there.log_lrs, DROPS, momentum)
    np.testing.assert_allclose(back.log_scale, there.log_scale, atol=1e-12)
    again = theory.exponential_schedule(back.lrs, back.weight_decays, momentum)
    np.testing.assert_allclose(again.log_lrs, there.log_lrs, rtol=0, atol=1e-12)
    # λ_t is the difference of two logarithms over η_t: its digits are those of a step's shrinking.
    np.testing.assert_allclose(back.weight_decays * DROPS, decays * DROPS, rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_steady_growth_there_and_back(momentum: float) -> None:
    limit = (1.0 - np.sqrt(momentum)) ** 2
    products = limit * np.array([1e-6, 1e-3, 0.1, 0.9])
    growth = theory.growth_rate(0.1, products / 0.1, momentum)
    # The growth as one number keeps 1e-16 of itself, not of its distance from 1.
    found = theory.equivalent_weight_decay(growth, 0.1, momentum)
    np.testing.assert_allclose(found * 0.1, products, rtol=1e-12, atol=1e-15)


def test_a_steady_growth_is_what_the_schedule_settles_to() -> None:
    """From the rate alone, after the start-up, the decay of the run it came from."""
    rates = theory.exponential_schedule(np.full(800, 0.1), 5e-4, momentum=0.9).log_lrs
    growth = np.exp(rates[-1] - rates[-2])
    assert theory.equivalent_weight_decay(growth, 0.1, 0.9) == pytest.approx(5e-4, rel=1e-9)


def heavy_ball(lrs: np.ndarray, decays: np.ndarray, momentum: float) -> np.ndarray:
    """Directions of a vector after each step down tanh<target_t, w/|w|>."""
    rng = np.random.default_rng(0)
    weights, buffer, path = rng.standard_normal(8), np.zeros(8), []
    for lr, decay in zip(lrs, decays, strict=True):
        target, norm = rng.standard_normal(8), np.linalg.norm(weights)
        unit = weights / norm
        gradient = target / np.cosh(target @ unit) ** 2
        gradient = (gradient - (gradient @ unit) * unit) / norm
        buffer = momentum * buffer + gradient + decay * weights
        weights = weights - lr * buffer
        path.append(weights / np.linalg.norm(weights))
    return np.array(path)


@pytest.mark.parametrize("rate", [0.1, 0.05])
def test_the_decay_found_does_what_the_growing_rate_does(rate: float) -> None:
    """For a rate the schedule was not made with the decay alternates in sign, and is right."""
    log_lrs = np.log(0.1) + 0.004 * np.arange(300)
    found = theory.undo_exponential_schedule(log_lrs, rate, momentum=0.9)
    grown = heavy_ball(np.exp(log_lrs), np.zeros(300), 0.9)
    decayed = heavy_ball(found.lrs, found.weight_decays, 0.9)
    np.testing.assert_allclose(decayed, grown, rtol=0, atol=1e-11)
    assert (found.weight_decays < 0).any()
    assert np.abs(heavy_ball(found.lrs, np.zeros(300), 0.9) - grown).max() > 1e-2


def test_bad_input() -> None:
    with pytest.raises(OutOfDomain, match=r"\[1, 1/momentum\), got 1\.481.*not of one epoch"):
        theory.equivalent_weight_decay(1.481, 0.1, 0.9)
    with pytest.raises(OutOfDomain, match=r"got 0\.5"):
        theory.equivalent_weight_decay(0.5, 0.1, 0.9)
    with pytest.raises(OutOfDomain, match=r"lr=\.\.\.\) must be finite and > 0, got 0"):
        theory.equivalent_weight_decay(1.001, 0.0, 0.9)
    with pytest.raises(OutOfDomain, match=r"momentum=.*got 1\.0"):
        theory.equivalent_weight_decay(1.001, 0.1, 1.0)
    with pytest.raises(InvalidArgument, match=r"shape \(steps,\), got shape \(\)"):
        theory.undo_exponential_schedule(0.0, 0.1, 0.9)
    with pytest.raises(InvalidArgument, match=r"shape \(2,\), got \(3,\)"):
        theory.undo_exponential_schedule([0.0, 0.0], [0.1] * 3, 0.9)
    with pytest.raises(OutOfDomain, match="no logarithm"):
        theory.undo_exponential_schedule([-np.inf], 0.1, 0.9)
    with pytest.raises(OutOfDomain, match="must be finite and > 0, got 0"):
        theory.undo_exponential_schedule([0.0], 0.0, 0.9)
