"""Every optimizer's closed form against the optimizer itself, stepped on random gradients."""

from __future__ import annotations

import dataclasses
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import uncorrelated_gradient, walk

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters

BATCHES = 20
"""Batches in a row from which the Monte Carlo error of a mean is taken."""

SIGMAS = 4.0
"""How many of those errors a mean may lie off its closed form."""


def sgd(momentum: float, lr: float = 0.1, weight_decay: float = 0.02, **kind) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum, **kind)


def other(name: str, lr: float, weight_decay: float, *betas: float, **kind) -> HyperParameters:
    return HyperParameters(name, lr=lr, weight_decay=weight_decay, betas=betas or None, **kind)


def agrees(values: np.ndarray, predicted: float, systematic: float) -> None:
    """The mean of a series is `predicted`, within its Monte Carlo error and a systematic share."""
    batches = values[len(values) % BATCHES :].reshape(BATCHES, -1).mean(axis=1)
    error = batches.std(ddof=1) / math.sqrt(BATCHES) / predicted
    deviation = abs(float(values.mean()) / predicted - 1.0)
    assert deviation < SIGMAS * error + systematic, (deviation, error)
    assert error < 0.01


# SGD: exact in ηλ


KINDS = {
    "heavy ball": {},
    "Nesterov": {"nesterov": True},
    "decoupled": {"decoupled": True},
    "dampened": {"dampening": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.02), (0.5, 0.02), (0.9, 0.02), (0.9, 2.0)])
def test_sgd_on_gradients_of_one_size_comes_to_rest_at_the_exact_values(
    kind: str, momentum: float, decay: float
) -> None:
    # Gradients of constant size, exactly orthogonal to weights and buffer, leave nothing random:
    # the recursion converges to its fixed point, which is what the closed form says it is.
    hp = sgd(momentum, weight_decay=decay, **KINDS[kind])
    norm = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    rng = np.random.default_rng(3)
    run = walk(hp, 2500, norm0=norm, dimension=50, gradient=uncorrelated_gradient(rng))
    gram = run.gram(2400)
    rate = theory.relaxation_rate(hp)
    tolerance = 1e-10 + math.exp(-2400 * rate)
    np.testing.assert_allclose(sphere.angle(gram), theory.equilibrium_angle(hp), rtol=tolerance)
    np.testing.assert_allclose(sphere.norm(gram), norm, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_sgd_on_random_gradients_agrees_within_the_monte_carlo_error(
    kind: str, momentum: float
) -> None:
    hp = sgd(momentum, **KINDS[kind])
    norm = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    gram = walk(hp, 5000, norm0=norm, dimension=1000).gram(1000)
    agrees(sphere.angle(gram), theory.equilibrium_angle(hp), 1e-4)
    agrees(sphere.norm(gram), norm, 1e-3)


def persistent(share: float, rng: np.random.Generator, heavy: bool):
    """Gradients with a common direction, `share` of each, and sizes that may vary widely."""
    common = rng.standard_normal(100)

    def draw(t: int, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        g = rng.standard_normal(w.size) + share * common
        g *= rng.lognormal(0.0, 1.0) if heavy else 1.0
        g -= (g @ w) / (w @ w) * w
        return g / math.sqrt(w.size) / np.linalg.norm(w)

    return draw


@pytest.mark.parametrize("kind", KINDS)
def test_balance_is_an_identity_whatever_the_gradients(kind: str) -> None:
    hp = sgd(0.9, weight_decay=0.1, **KINDS[kind])
    for share, heavy in ((0.0, True), (0.3, False)):
        gradient = persistent(share, np.random.default_rng(0), heavy)
        gram = walk(hp, 12_000, norm0=1.5, dimension=100, gradient=gradient).gram(2000)
        outward, inward = theory.balance_terms(hp, gram)
        # What is left of the mean is the drift of the norm from end to end: a few |w|² over n.
        assert outward.mean() == pytest.approx(inward.mean(), rel=0.02)


def test_nesterov_with_correlated_gradients_turns_as_its_overlap_says() -> None:
    hp = sgd(0.9, weight_decay=0.05, nesterov=True)
    # Each gradient takes part of its direction from the buffer, so that <v, g> = 0.5·|g|².
    rng = np.random.default_rng(0)
    free = uncorrelated_gradient(rng)

    def gradient(t: int, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        g = free(t, w, v)
        across = v - (v @ w) / (w @ w) * w
        size = across @ across
        wanted = 0.5 * (g @ g) / size if size > 0 else 0.0
        return g + min(wanted, 0.5 * math.sqrt((g @ g) / size) if size > 0 else 0.0) * across

    gram = walk(hp, 8000, norm0=1.0, dimension=60, gradient=gradient).gram(4000)
    cross = gram.ww * sphere.momentum_dot_gradient(gram, hp.lr, 0.05, 0.9, nesterov=True)
    grad_sq = gram.ww * gram.gg
    known = {"overlap": cross.mean() / grad_sq.mean(), "unit_grad_sq": grad_sq.mean()}
    assert known["overlap"] > 0.3
    assert sphere.angle(gram).mean() == pytest.approx(
        theory.equilibrium_angle(hp, **known), rel=1e-3
    )
    assert sphere.norm(gram).mean() == pytest.approx(theory.equilibrium_norm(hp, **known), rel=1e-3)
    assert theory.equilibrium_angle(hp) != pytest.approx(sphere.angle(gram).mean(), rel=0.02)


@given(a=st.floats(1e-9, 0.999), momentum=st.floats(0.0, 0.99))
def test_nesterov_is_the_fixed_point_of_its_linear_recursion_in_fifty_digits(a, momentum) -> None:
    # |w|², <w, v>, <w, v_{t-1}>, |v|² at η = 1, λ = a, with |g|² = 1: solved as they stand.
    a *= 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum)
    with mpmath.workdps(50):
        x, m = mpmath.mpf(a), mpmath.mpf(momentum)
        equations = mpmath.matrix(4, 4)  # unknowns R, s = <w, v>, b = <w, v_{t-1}>, V = |v|²
        known = mpmath.matrix(4, 1)
        pv_r, pv_b, pv_1 = x * x, m * x, mpmath.mpf(1)  # <p, v> = x²R + αxb + 1, p = g + λw
        equations[0, :] = mpmath.matrix([[-x, 1, -m, 0]])  # s = αb + λR
        equations[1, :] = mpmath.matrix([[pv_r, -1, 1 + pv_b, m]])  # b = s - <p, v> - αV
        known[1] = -pv_1
        equations[2, :] = mpmath.matrix([[-x * x, 0, -2 * m * x, 1 - m * m]])  # V
        known[2] = 1
        # 2C + D = 0: C = -(λR + αs), D = |p|² + 2α<p, v> + α²V, |p|² = x²R + 1
        equations[3, :] = mpmath.matrix(
            [[-2 * x + x * x + 2 * m * pv_r, -2 * m, 2 * m * pv_b, m * m]]
        )
        known[3] = -(1 + 2 * m * pv_1)
        norm_sq, along, _, _ = mpmath.lu_solve(equations, known)
        ratio = 2 * (x * norm_sq + m * along) / norm_sq
        found = theory.equilibrium_step_ratio(sgd(momentum, 1.0, a, nesterov=True)) ** 2
        assert abs(found / ratio - 1) < 1e-10
        # With |g|² = 1 fixed, L = |w|², so that |w*|⁴ = |w|²·share and R is the share.
        norm = theory.equilibrium_norm(sgd(momentum, 1.0, a, nesterov=True), unit_grad_sq=1.0)
        assert abs(norm**4 / norm_sq - 1) < 1e-10


def test_nesterov_angle_is_the_published_rational_function() -> None:
    a, m = 0.01, 0.9
    cosine = (1 + m) * (1 - a + 2 * a * m**2 - a**2 * m - 2 * a**2 * m**2)
    cosine /= 1 + m + a * m + 2 * a * m**2
    hp = sgd(m, 1.0, a, nesterov=True)
    assert math.cos(theory.equilibrium_angle(hp)) == pytest.approx(cosine, rel=1e-14)


# Adaptive optimizers and decoupled decay in general


@pytest.mark.parametrize("weight_decay", [10.0, 1.0])
def test_adamw_is_exact_in_the_intrinsic_rate(weight_decay: float) -> None:
    d, hp = 1000, other("adamw", 1e-3, weight_decay, 0.9, 0.999)
    norm = theory.equilibrium_norm(hp, numel=d)
    scales = np.full(d, d**-0.5)
    gram = walk(hp, 6000, norm0=norm, dimension=d, scales=scales).gram(2000)
    agrees(sphere.angle(gram), theory.equilibrium_angle(hp), 1e-3)
    agrees(sphere.norm(gram), norm, 2e-3)


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.95, 0.98), (0.5, 0.9), (0.0, 0.9)])
def test_lion_follows_the_arcsine_law(betas: tuple[float, float]) -> None:
    d, hp = 1000, other("lion", 1e-3, 2.0, *betas)
    norm = theory.equilibrium_norm(hp, numel=d)
    scales = np.full(d, d**-0.5)
    gram = walk(hp, 8000, norm0=norm, dimension=d, scales=scales).gram(1500)
    agrees(sphere.angle(gram), theory.equilibrium_angle(hp), 2e-3)
    agrees(sphere.norm(gram), norm, 2e-3)


@pytest.mark.parametrize("spread", [1.0, 10.0])
def test_adam_with_l2_needs_the_mean_of_the_gradients_rms(spread: float) -> None:
    d = 600
    scales = np.geomspace(1.0, spread, d)
    scales /= np.linalg.norm(scales)
    hp = other("adam", 1e-2, 1e-3, 0.9, 0.999)
    known = {"numel": d, "unit_grad_rms": float(scales.mean())}
    norm = theory.equilibrium_norm(hp, **known)
    gram = walk(hp, 8000, norm0=norm, dimension=d, scales=scales).gram(4000)
    # Leading order in the angle, and uneven entries settle at rates of their own.
    agrees(sphere.angle(gram), theory.equilibrium_angle(hp, **known), 0.02)
    agrees(sphere.norm(gram), norm, 0.02)


# Laws over the domain


EVERYTHING = {
    "unit_grad_sq": 2.0,
    "numel": 100,
    "unit_grad_rms": 0.1,
    "correlation": 5.0,
    "update_sq": 30.0,
}
FAMILIES = [
    *(sgd(0.9, **kind) for kind in KINDS.values()),
    other("adam", 1e-3, 1e-2, 0.9, 0.99),
    other("adamw", 1e-3, 1e-2, 0.9, 0.99),
    other("lion", 1e-3, 1e-2, 0.9, 0.99),
    HyperParameters("muon", lr=1e-3, weight_decay=1e-2, momentum=0.95),
]


@pytest.mark.parametrize("hp", FAMILIES, ids=lambda hp: theory.family_of(hp).name)
def test_slopes_in_the_learning_rate(hp: HyperParameters) -> None:
    rates = np.logspace(-8, -5, 7)
    hps = [dataclasses.replace(hp, lr=lr) for lr in rates]
    adam = theory.family_of(hp).name == "Adam with L2 weight decay"

    def slope(function) -> float:
        return float(
            np.polyfit(np.log(rates), np.log([function(h, **EVERYTHING) for h in hps]), 1)[0]
        )

    power = theory.relaxing_power(hp)
    assert slope(theory.equilibrium_angle) == pytest.approx(2 / 3 if adam else 0.5, abs=1e-3)
    assert slope(theory.equilibrium_norm) == pytest.approx(1 / 3 if adam else 1 / power, abs=1e-3)
    assert slope(theory.relaxation_rate) == pytest.approx(4 / 3 if adam else 1.0, abs=1e-3)


@pytest.mark.parametrize("hp", FAMILIES, ids=lambda hp: theory.family_of(hp).name)
def test_exact_forms_tend_to_the_printed_ones(hp: HyperParameters) -> None:
    small = dataclasses.replace(hp, lr=1e-9)
    lion = hp.optimizer == "lion"
    for exact, approx in (
        (theory.equilibrium_angle, theory.equilibrium_angle_approx),
        (theory.equilibrium_norm, theory.equilibrium_norm_approx),
    ):
        ratio = exact(small, **EVERYTHING) / approx(small, **EVERYTHING)
        assert ratio == pytest.approx(1.0, abs=0.008 if lion else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_sgd_are_one_without_momentum(kind: str) -> None:
    plain, made = sgd(0.0, 0.1, 0.3), sgd(0.0, 0.1, 0.3, **KINDS[kind])
    assert theory.equilibrium_angle(made) == pytest.approx(theory.equilibrium_angle(plain))
    little = sgd(1e-9, 0.1, 0.3, **{**KINDS[kind], "dampening": 0.0})
    assert theory.equilibrium_angle(little) == pytest.approx(theory.equilibrium_angle(plain))
    assert theory.equilibrium_norm(little, unit_grad_sq=3.0) == pytest.approx(
        theory.equilibrium_norm(plain, unit_grad_sq=3.0)
    )


@given(
    share=st.floats(1e-6, 0.999),
    momentum=st.floats(0.0, 0.999),
    kind=st.sampled_from(["heavy ball", "Nesterov", "decoupled", "adamw", "lion"]),
)
def test_every_angle_of_the_domain_is_an_angle(share: float, momentum: float, kind: str) -> None:
    if kind in KINDS:
        hp = sgd(momentum, 1.0, 1.0, **KINDS[kind])
    else:
        hp = other(kind, 1.0, 1.0, momentum, 0.99)
    limit = 2.0 * (1.0 + momentum) if kind in ("heavy ball", "Nesterov") else 2.0
    if kind == "Nesterov" and momentum:
        limit /= 1.0 + 2.0 * momentum
    hp = dataclasses.replace(hp, weight_decay=share * limit)
    assert 0.0 < theory.equilibrium_angle(hp) <= math.pi
    norm = theory.equilibrium_norm(hp, unit_grad_sq=1.0, numel=10)
    assert math.isfinite(norm)
    assert norm > 0.0


# Bad input


@pytest.mark.parametrize(
    ("hp", "found"),
    [
        (sgd(0.9, 1.0, 1.4, nesterov=True), r"< 1\.35714"),
        (sgd(0.9, 1.0, 2.0, decoupled=True), "< 2"),
        (sgd(0.9, 0.1, 0.1, dampening=1.0), "dampening < 1, got 1"),
        (other("lion", 2.0, 1.0, 0.9, 0.99), "< 2"),
        (other("adam", 10.0, 1.0, 0.9, 0.99), "would be"),
    ],
)
def test_outside_the_domain_the_range_is_named(hp: HyperParameters, found: str) -> None:
    with pytest.raises(OutOfDomain, match=found):
        theory.equilibrium_angle(hp, numel=10, unit_grad_rms=0.1)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(NoTheory, match="correlation_sum"):
        theory.equilibrium_angle(HyperParameters("muon", lr=0.1, weight_decay=0.1))
    adam = other("adam", 1e-3, 1e-2, 0.9, 0.99)
    with pytest.raises(InvalidArgument, match=r"unit_grad_rms=.*adam, got None"):
        theory.equilibrium_angle(adam, numel=10)
    with pytest.raises(InvalidArgument, match=r"numel=.*got -1"):
        theory.equilibrium_angle(adam, numel=-1, unit_grad_rms=1.0)
    with pytest.raises(InvalidArgument, match="Lion's formulas need β2"):
        theory.equilibrium_angle(HyperParameters("lion", lr=1e-3, weight_decay=0.1))
    with pytest.raises(InvalidArgument, match="overlap"):
        theory.equilibrium_angle(sgd(0.9, nesterov=True), overlap=math.nan)
    with pytest.raises(OutOfDomain, match="undo the buffer"):
        theory.equilibrium_norm(sgd(0.9, nesterov=True), overlap=-1.0, unit_grad_sq=1.0)


def test_a_misspelt_keyword_is_not_ignored() -> None:
    for function in (theory.equilibrium_angle, theory.relaxation_rate, theory.equilibrium_norm):
        with pytest.raises(TypeError, match="unexpected keyword argument 'unit_grad_square'"):
            function(sgd(0.9), unit_grad_square=1.0)


def test_numbers_of_numpy_are_numbers() -> None:
    hp = other("adamw", 1e-3, 1e-2, 0.9, 0.99)
    assert theory.equilibrium_norm(hp, numel=np.int64(64)) == theory.equilibrium_norm(hp, numel=64)


def test_balance_of_adaptive_optimizers_is_their_rms_law() -> None:
    gram = Gram(ww=np.ones(3), wd=np.zeros(3), dd=np.full(3, 4e-6), wg=0 * np.ones(3),
                gg=np.ones(3), dg=np.zeros(3))  # fmt: skip
    hp = other("adamw", 1e-3, 1e-2, 0.9, 0.99)
    outward, inward = theory.balance_terms(hp, gram)
    ratio = theory.equilibrium_step_ratio(hp)
    np.testing.assert_allclose(outward / inward, 4e-6 / ratio**2)
