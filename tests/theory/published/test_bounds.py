"""The bounds hold in simulation, their constants are the papers', and the checks see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import walk
from simulated import constant, simulate_sgd

from spherical_motion import sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters


def sgd(lr: float, weight_decay: float, momentum: float = 0.0, **kind) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum, **kind)


PLAIN, HEAVY = sgd(0.1, 0.01), sgd(0.1, 0.01, 0.6)


def ensemble(hp: HyperParameters, norm0: float, steps: int, runs: int = 400) -> np.ndarray:
    """|w_t|² of many runs of equation 70, L = 10 + U(-3, 3): shape (steps + 1, runs)."""
    rng = np.random.default_rng(0)
    a, m = hp.intrinsic_lr, hp.momentum
    x = b = c = np.full(runs, norm0**2)
    rows = [x]
    for _ in range(steps):
        drive = rng.uniform(7.0, 13.0, runs) * hp.lr**2 / x
        after = (1 + m - a) ** 2 * x - 2 * m * (1 + m - a) * b + m * m * c + drive
        x, b, c = after, (1 + m - a) * x - m * b, x
        rows.append(x)
    return np.array(rows)


# Theorems 1-3


@pytest.mark.parametrize("hp", [PLAIN, HEAVY])
@pytest.mark.parametrize("norm0", [1.0, 6.0])
def test_the_spread_of_the_norm_stays_under_its_bound(hp: HyperParameters, norm0: float) -> None:
    squares = ensemble(hp, norm0, 6000)
    rest = theory.equilibrium_norm(hp, unit_grad_sq=10.0) ** 2
    missed = ((squares - rest) ** 2).mean(axis=1)
    bound = theory.norm_bound(hp, np.arange(6001), start=missed[0], variance=3.0, lowest=7.0)
    assert (missed <= bound * (1 + 1e-9)).all()
    # Without momentum the spread settles at Vη²/(4L): the bound is 8L/l times that.
    if not hp.momentum:
        error = math.sqrt(2.0 / 400)
        assert missed[3000:].mean() == pytest.approx(3.0 * hp.lr**2 / 40.0, rel=3 * error)


def test_bounds_decay_at_the_rates_of_the_theorems() -> None:
    steps = np.array([0.0, 100.0, 200.0])
    for hp, rate in ((PLAIN, 0.002), (HEAVY, 0.005)):
        decay = np.log(theory.norm_bound(hp, steps, start=1.0, variance=0.0, lowest=1.0))
        np.testing.assert_allclose(np.diff(decay), 100 * math.log(1 - rate), rtol=1e-12)


def test_constant_of_theorem_2_is_that_of_the_recursion() -> None:
    # k is the first column of S^{-1}: e in the eigenbasis whose vectors start with 1.
    for m in (0.6, 0.9, 0.99):
        a = 1e-9
        recursion = np.array(
            [[(1 + m - a) ** 2, -2 * m * (1 + m - a), m * m], [1 + m - a, -m, 0], [1, 0, 0]]
        )
        values, vectors = np.linalg.eig(recursion)
        k = np.linalg.solve((vectors / vectors[0]).real, [1.0, 0.0, 0.0])
        assert np.abs(values.imag).max() == 0
        assert theory.bound_constant(m) == pytest.approx(6 * (k @ k), rel=1e-3)


def test_angles_lie_within_theorem_3_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    sizes = np.sqrt(10.0 + 0.01 * rng.uniform(-1, 1, 4000))
    gram = Gram.from_array(
        simulate_sgd(
            constant(0.1, 0.01, 0.0, 4000), size=lambda step, r: sizes[step], norm0=50.0**0.25
        )
    )
    bound = theory.angle_bound(PLAIN, variance=1e-4 / 3, lowest=9.99, unit_grad_sq=10.0)
    missed = np.abs(sphere.angle(gram)[2000:] - math.sqrt(2 * 0.001))
    assert 0.9 < bound.probability < 1.0
    assert (missed <= bound.deviation).mean() >= bound.probability


def test_theorem_3_grows_with_the_cube_root_of_the_variance() -> None:
    values = np.logspace(-12, -6, 7)
    for hp in (sgd(0.1, 1e-8), HEAVY):
        found = [
            theory.angle_bound(hp, variance=v, lowest=9.0, unit_grad_sq=10.0).deviation
            for v in values
        ]
        assert np.polyfit(np.log(values), np.log(found), 1)[0] == pytest.approx(1 / 3, abs=1e-3)


def test_after_the_burn_in_the_norm_is_above_its_floor() -> None:
    for hp in (PLAIN, HEAVY):
        for norm0 in (0.3, 8.0):
            steps = theory.burn_in_steps(hp, norm0, lowest=7.0)
            floor = math.sqrt(7.0 * hp.lr * (1 - hp.momentum) / (4 * hp.weight_decay))
            assert (ensemble(hp, norm0, steps + 50, runs=50)[steps:] > floor).all()
    assert theory.burn_in_steps(PLAIN, 35.0**0.25, lowest=7.0) == 0


def test_the_range_of_theorem_2_is_refused_there_and_nowhere_else() -> None:
    hp = sgd(0.1, 5e-4, 0.99)
    assert hp.intrinsic_lr > (1 - math.sqrt(0.99)) ** 2
    with pytest.raises(OutOfDomain, match=r"\(1 - √momentum\)² = 2\.51e-05, got 5e-05"):
        theory.norm_bound(hp, 1, start=1.0, variance=1.0, lowest=1.0)
    with pytest.raises(OutOfDomain, match="only the bound"):
        theory.angle_tolerance(hp, spread=0.0)
    for function in (theory.equilibrium_angle, theory.relaxation_rate, theory.narrowest_minimum):
        assert function(hp) > 0
    with pytest.raises(OutOfDomain, match=r"momentum 0 and \(0.5, 1\), got 0.4"):
        theory.norm_bound(sgd(0.1, 1e-4, 0.4), 1, start=1.0, variance=1.0, lowest=1.0)
    assert theory.angle_tolerance(sgd(0.1, 1e-4, 0.4), spread=0.01) > 0
    with pytest.raises(OutOfDomain, match="uneven"):
        theory.angle_bound(PLAIN, variance=100.0, lowest=1.0, unit_grad_sq=10.0)
    for wrong in (sgd(0.1, 1e-3, 0.9, nesterov=True), sgd(0.1, 1e-3, 0.9, dampening=0.1)):
        with pytest.raises(NoTheory, match="heavy ball"):
            theory.norm_bound(wrong, 1, start=1.0, variance=1.0, lowest=1.0)


@pytest.mark.parametrize("name", ["start", "variance", "lowest"])
def test_bad_constants_are_named(name: str) -> None:
    arguments = {"start": 1.0, "variance": 1.0, "lowest": 1.0, name: math.nan}
    with pytest.raises(OutOfDomain, match=rf"norm_bound\({name}=.*got nan"):
        theory.norm_bound(PLAIN, 1, **arguments)


# wan2020: theorem 2's tolerance and its corollaries


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.9])
def test_angle_and_norm_end_within_the_tolerance(momentum: float) -> None:
    hp, spread = sgd(0.1, 0.005, momentum), 0.01
    settings = constant(0.1, 0.005, momentum, 4000)
    gram = Gram.from_array(
        simulate_sgd(settings, size=lambda t, rng: 1 + rng.uniform(-spread, spread), norm0=1.2)
    )[3000:]
    overlap = 0.0
    if momentum:
        dot = sphere.momentum_dot_gradient(gram, 0.1, 0.005, momentum)
        overlap = float(np.abs(dot / gram.gg).max())
    share = theory.angle_tolerance(hp, spread=spread, overlap=overlap)
    angles = sphere.angle(gram) / theory.equilibrium_angle_approx(hp)
    assert np.abs(angles - 1).max() <= share + hp.intrinsic_lr  # the paper's O(ηλ)
    squares = gram.ww / theory.equilibrium_norm(hp, unit_grad_sq=1.0) ** 2
    assert np.abs(squares - 1).max() <= (share if momentum else spread) + hp.intrinsic_lr
    floor = theory.angle_floor(hp, spread=spread, overlap=overlap)
    assert sphere.angle(gram).min() >= floor * (1 - hp.intrinsic_lr)


def test_without_momentum_the_angle_needs_twice_the_spread_that_the_norm_needs() -> None:
    # A gradient at its weakest for long lets the norm settle low; then one at its strongest.
    hp, spread = sgd(0.1, 0.005), 0.01
    sizes = lambda t, rng: 1 + spread if t % 3000 == 2999 else 1 - spread  # noqa: E731
    gram = Gram.from_array(
        simulate_sgd(constant(0.1, 0.005, 0.0, 9000), size=sizes, norm0=10**0.25)
    )[3000:]
    off = np.abs(sphere.angle(gram) / theory.equilibrium_angle_approx(hp) - 1).max()
    assert 1.9 * spread < off <= theory.angle_tolerance(hp, spread=spread) + 2 * spread**2 + 5e-4
    squares = gram.ww / theory.equilibrium_norm(hp, unit_grad_sq=1.0) ** 2
    assert np.abs(squares - 1).max() <= spread + hp.intrinsic_lr


def test_relative_gradient_does_not_know_the_gradients_scale() -> None:
    hp = sgd(0.1, 0.02, 0.9)
    found = []
    for size in (0.01, 1.0, 100.0):
        norm = theory.equilibrium_norm(hp, unit_grad_sq=size**2)
        settings = constant(0.1, 0.02, 0.9, 3000)
        gram = Gram.from_array(
            simulate_sgd(settings, size=lambda t, rng, s=size: s, norm0=norm, dimension=400)
        )[500:]
        found.append(float(np.sqrt((gram.gg / gram.ww).mean())))
    np.testing.assert_allclose(found, theory.relative_gradient_at_rest(hp), rtol=0.02)


def test_corollaries_with_the_figures_of_the_paper() -> None:
    hp = sgd(1e-3, 1e-4, 0.9)
    assert theory.minimal_steps_without_momentum(hp, 10) == 5_756_463
    assert theory.minimal_steps_after_drop(hp, 10) == 575_647
    assert theory.narrowest_minimum(hp) == pytest.approx(math.sqrt(2e-7 / 1.9))
    assert theory.angle_floor(hp, spread=0.0) == theory.narrowest_minimum(hp)
    assert theory.angle_floor(hp, spread=0.01) == 0.0  # K is 133: nothing is left to claim


# Assumptions, held against a series


def checks(gram: Gram, hp: HyperParameters, **kwargs) -> dict[str, bool]:
    return {c.name: c.holds for c in theory.check_assumptions(hp, gram, **kwargs)}


def series(hp: HyperParameters, size, steps: int = 2000) -> Gram:
    settings = constant(hp.lr, hp.weight_decay, hp.momentum, steps)
    return Gram.from_array(simulate_sgd(settings, size=size, norm0=1.5, dimension=400))


def mild(step: int, rng: np.random.Generator) -> float:
    return 1.0 + 0.1 * rng.uniform(-1, 1)


def test_a_tame_run_meets_all_four() -> None:
    assert checks(series(PLAIN, mild), PLAIN) == dict.fromkeys(
        ("assumption 1", "assumption 2", "assumption 3", "assumption 4"), True
    )
    hp = sgd(0.01, 0.01, 0.9)
    found = checks(series(hp, mild), hp)
    assert set(found) == {"assumption 5", "assumption 6", "assumption 7", "assumption 8"}
    assert all(found.values())


def test_each_assumption_is_seen_to_fail() -> None:
    large = sgd(1.0, 0.1)
    assert not checks(series(large, mild), large)["assumption 1"]
    fading = series(PLAIN, lambda t, rng: math.exp(-t / 500) * mild(t, rng))
    assert not checks(fading, PLAIN)["assumption 3"]
    rare = series(PLAIN, lambda t, rng: 1e-6 if t == 700 else mild(t, rng))
    assert not checks(rare, PLAIN)["assumption 4"]
    # In few dimensions the gradient often opposes the buffer: h̃ below zero.
    hp = sgd(0.01, 0.01, 0.9)
    gram = walk(hp, 1000, norm0=1.5, dimension=3).gram()
    report = theory.check_assumptions(hp, gram)
    assert not report[3].holds
    assert "assumption 8 fails: the lowest drive is l = -" in str(report[3])
    assert not checks(gram, sgd(0.01, 0.01, 0.999))["assumption 5"]


def test_statistics_of_a_drive_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    steps = np.arange(0, 40_000, 2)
    drive = 5.0 + 1e-4 * steps + rng.normal(0, 0.5, steps.size)
    s = theory.drive_statistics(drive, steps=steps)
    assert s.windows == 100
    assert s.slope == pytest.approx(1e-4, abs=4 * s.slope_error)
    assert s.slope_error < 1e-6
    assert s.mean == pytest.approx(7.0, abs=0.02)
    assert 0.25 < s.variance < 0.25 * 1.5
    assert s.lowest == drive.min()
    with pytest.raises(InvalidArgument, match="window"):
        theory.drive_statistics(drive[:100])
    with pytest.raises(NoTheory, match="heavy ball"):
        theory.check_assumptions(
            HyperParameters("adamw", lr=0.1, weight_decay=0.1), series(PLAIN, mild, 300)
        )
