"""Correlated steps of known size: Lion's arcsine law, and correlation measured from updates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import walk

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.vocabulary import HyperParameters


def other(name: str, lr: float, weight_decay: float, *betas: float) -> HyperParameters:
    return HyperParameters(name, lr=lr, weight_decay=weight_decay, betas=betas)


# Lion


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.95, 0.98), (0.5, 0.9)])
def test_two_signs_of_lion_agree_as_the_arcsine_law_says(betas: tuple[float, float]) -> None:
    beta1, beta2 = betas
    rng = np.random.default_rng(0)
    m, signs = np.zeros(400), []
    for _ in range(1500):
        g = rng.standard_normal(400)
        signs.append(np.sign(beta1 * m + (1 - beta1) * g))
        m = beta2 * m + (1 - beta2) * g
    measured = theory.autocorrelation(np.array(signs[500:]), lags=10)
    weights = np.array([1 - beta1, *(beta1 * (1 - beta2) * beta2 ** np.arange(3000))])
    ratios = np.array([weights[:-k] @ weights[k:] for k in range(1, 11)]) / (weights @ weights)
    error = math.sqrt(1 / (1000 * 400) * 2 / (1 - beta2))
    np.testing.assert_allclose(measured, 2 / math.pi * np.arcsin(ratios), atol=4 * error)


def test_sum_of_arcsines_is_the_sum_term_by_term() -> None:
    for beta1, beta2, a in ((0.9, 0.99, 0.0), (0.5, 0.9, 0.3), (0.95, 0.999, 1.5), (0.9, 0.0, 0.1)):
        weights = np.array([1 - beta1, *(beta1 * (1 - beta2) * beta2 ** np.arange(30_000))])
        first = weights[:-1] @ weights[1:] / (weights @ weights)
        ratios = first * beta2 ** np.arange(30_000) if beta2 else np.array([first])
        total = (np.arcsin(ratios) * (1 - a) ** np.arange(1, len(ratios) + 1)).sum()
        found = theory.lion_correlation(beta1, beta2, intrinsic_lr=a)
        assert found == pytest.approx(1 + 4 / math.pi * total, rel=1e-9)


def test_correlation_takes_arrays_and_refuses_what_is_no_beta() -> None:
    both = theory.lion_correlation(np.array([[0.9, 0.5]]), 0.99)
    assert both.shape == (1, 2)
    assert both[0, 1] == theory.lion_correlation(0.5, 0.99)
    assert theory.lion_correlation(0.0, 0.99) == 1.0
    for bad in ((1.0, 0.9), (0.9, 1.0), (math.nan, 0.9)):
        with pytest.raises(OutOfDomain, match=r"momentum|β1 and β2"):
            theory.lion_correlation(*bad)


def test_short_form_is_the_limit_where_the_latest_gradient_outweighs_the_mean() -> None:
    gaps = []
    for beta2 in (0.99, 0.999, 0.9999):
        linear = 2 / (math.pi * theory.lion_factor(0.9, beta2)) + 1 - 2 / math.pi
        gaps.append(theory.lion_correlation(0.9, beta2) / linear - 1)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 1e-4
    hp = other("lion", 1e-6, 1e-3, 0.5, 0.9)
    angles = theory.equilibrium_angle_approx(hp) / theory.equilibrium_angle(hp)
    norms = theory.equilibrium_norm(hp, numel=10) / theory.equilibrium_norm_approx(hp, numel=10)
    assert angles == pytest.approx(norms, rel=1e-6)
    assert angles == pytest.approx(1.073, abs=1e-3)  # the share by which simulations fall short


# Decoupled decay in general


def test_any_decoupled_optimizer_follows_from_its_measured_correlation() -> None:
    hp = HyperParameters("muon", lr=1e-3, weight_decay=1.0, momentum=0.9)
    run = walk(hp, 5000, norm0=0.08, dimension=400, keep_updates=2000)
    rho = theory.autocorrelation(run.updates, lags=80)
    known = {"correlation": theory.correlation_sum(rho), "update_sq": 1.0}
    gram = run.gram(3000)
    assert sphere.angle(gram).mean() == pytest.approx(
        theory.equilibrium_angle(hp, **known), rel=0.02
    )
    assert sphere.norm(gram).mean() == pytest.approx(theory.equilibrium_norm(hp, **known), rel=0.03)


def test_general_law_contains_adamw_and_lion() -> None:
    adamw, lion = other("adamw", 1e-4, 1e-3, 0.9, 0.99), other("lion", 1e-4, 1e-3, 0.9, 0.99)
    for hp, c, size in (
        (adamw, 19.0, 1 / 19.0),
        (lion, theory.lion_correlation(0.9, 0.99), 1.0),
    ):
        same = HyperParameters("muon", lr=hp.lr, weight_decay=hp.weight_decay)
        known = {"correlation": c, "update_sq": 50 * size}
        assert theory.equilibrium_angle(same, **known) == pytest.approx(
            theory.equilibrium_angle(hp), rel=1e-4
        )
        assert theory.equilibrium_norm(same, **known) == pytest.approx(
            theory.equilibrium_norm(hp, numel=50), rel=1e-4
        )


# Correlation from a series of updates


def test_autocorrelation_of_a_known_process() -> None:
    rng = np.random.default_rng(0)
    noise, u = rng.standard_normal((4000, 100)), np.zeros((4000, 100))
    for t in range(1, 4000):
        u[t] = 0.8 * u[t - 1] + noise[t]
    rho = theory.autocorrelation(u[100:], lags=40)
    error = 1.0 / math.sqrt(3900 * 100 * (1 - 0.8**2) / (1 + 0.8**2))
    np.testing.assert_allclose(rho, 0.8 ** np.arange(1, 41), atol=5 * error)
    assert theory.correlation_sum(rho) == pytest.approx(9.0, rel=0.05)


def test_steps_instead_of_updates_would_lead_astray() -> None:
    # With the decay in them steps are anticorrelated over 1/(ηλ) lags: their sum tends to 0.
    hp = HyperParameters("muon", lr=1e-3, weight_decay=50.0, momentum=0.0)
    run = walk(hp, 2500, norm0=0.1, dimension=50, keep_updates=2499)
    steps = run.updates * 0.0
    weights = np.zeros(50)
    for t, u in enumerate(run.updates):  # rebuild w from the updates, then d = -ηu - ηλw
        steps[t] = -1e-3 * u - 0.05 * weights
        weights = weights + steps[t]
    of_steps = 1 + 2 * theory.autocorrelation(steps[500:], lags=200).sum()
    of_updates = theory.correlation_sum(theory.autocorrelation(run.updates[500:], lags=10))
    assert abs(of_steps) < 0.1
    assert of_updates == pytest.approx(1.0, abs=0.05)
    with pytest.raises(OutOfDomain, match="updates_between"):
        theory.correlation_sum([-0.3, -0.3])


def test_updates_between_undo_the_step() -> None:
    rng = np.random.default_rng(0)
    w, u = rng.standard_normal((2, 5, 7))
    lr = rng.uniform(0.1, 1.0, 5)
    after = (1 - lr[:, None] * 0.3) * w - lr[:, None] * u
    np.testing.assert_allclose(theory.updates_between(w, after, lr, 0.3), u, rtol=1e-12)
    with pytest.raises(OutOfDomain, match="lr"):
        theory.updates_between(w, after, 0.0, 0.3)
    with pytest.raises(InvalidArgument, match="lags"):
        theory.autocorrelation(u, lags=5)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.95])
def test_the_largest_sum_of_an_exponential_memory_lacks_e_to_the_minus_three(
    momentum: float,
) -> None:
    rho = momentum ** np.arange(1, 1000)
    whole = theory.correlation_sum(rho)
    found = theory.largest_correlation_sum(rho, momentum)
    assert theory.largest_correlation_sum(rho) == pytest.approx(whole)
    assert found <= whole
    assert whole - found <= math.exp(-3.0) * (whole - 1.0)


def test_the_largest_sum_stops_where_the_loss_answers() -> None:
    lags = np.arange(1, 200)
    memory = 0.9**lags
    answered = memory - 0.02 * np.exp(-lags / 60)
    falls = int(np.argmax(answered < 0))
    assert theory.largest_correlation_sum(answered) == pytest.approx(1 + 2 * answered[:falls].sum())
    assert theory.largest_correlation_sum(answered) > theory.correlation_sum(answered)


@pytest.mark.parametrize("rho", [[], [-0.1, -0.2], [-0.4, 0.1]])
def test_the_largest_sum_of_updates_that_never_agree_has_no_lags(rho: list[float]) -> None:
    assert theory.largest_correlation_sum(rho) == 1.0


def test_the_largest_sum_refuses_a_momentum_without_memory() -> None:
    with pytest.raises(OutOfDomain, match="momentum"):
        theory.largest_correlation_sum([0.5], momentum=1.0)
    with pytest.raises(InvalidArgument, match="1 of 2"):
        theory.largest_correlation_sum([0.5, math.nan])
