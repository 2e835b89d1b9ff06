from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from spherical_motion import simulate, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.simulate import WAN2021_DRIVES, Drive
from spherical_motion.vocabulary import HyperParameters, Schedule


def sgd(lr: float, weight_decay: float, momentum: float = 0.0) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum)


# Against the slow and obvious


def plain(lr: float, decay: float, drive: np.ndarray, x: float, printed: bool) -> list[float]:
    path = []
    for push in drive:
        path.append(x)
        keep = 1 - 2 * lr * decay if printed else (1 - lr * decay) ** 2
        x = keep * x + push * lr**2 / x
    return [*path, x]


def matrix_form(lr, decay, momentum, drive: np.ndarray, x: float) -> list[float]:
    """Eq. 186 as it stands, in (|w_t|², <w_t, w_{t-1}>, |w_{t-1}|²), from w_{-1} = w_0."""
    m = 1 + momentum - lr * decay
    matrix = np.array([[m**2, -2 * momentum * m, momentum**2], [m, -momentum, 0], [1, 0, 0]])
    state = np.array([x, x, x])
    path = []
    for push in drive:
        path.append(state[0])
        state = matrix @ state + push * lr**2 / state[0] * np.array([1.0, 0.0, 0.0])
    return [*path, state[0]]


@pytest.mark.parametrize("printed", [False, True])
def test_plain_recursion_of_many_settings_equals_one_after_another(printed: bool) -> None:
    rng = np.random.default_rng(0)
    lr, decay, x = rng.uniform(0.01, 1, 7), rng.uniform(0, 0.4, 7), rng.uniform(0.5, 20, 7)
    drive = rng.uniform(0, 20, (300, 7))
    run = simulate.norm_sgd(lr, decay, drive, norm0=np.sqrt(x), steps=300, every=1, printed=printed)
    for j in range(7):
        expected = plain(lr[j], decay[j], drive[:, j], x[j], printed)
        np.testing.assert_allclose(run.norm_sq[:, j], expected[:-1], rtol=1e-12)
        assert run.final_norm_sq[j] == pytest.approx(expected[-1], rel=1e-12)
    np.testing.assert_array_equal(run.drive, drive)


def test_momentum_recursion_is_eq_186() -> None:
    rng = np.random.default_rng(1)
    lr, decay, alpha = rng.uniform(0.01, 0.5, 6), rng.uniform(0, 0.2, 6), rng.uniform(0, 0.95, 6)
    drive = rng.uniform(5, 15, 400)
    run = simulate.norm_sgdm(lr, decay, alpha, drive, norm0=3.0, steps=400, every=1)
    for j in range(6):
        expected = matrix_form(lr[j], decay[j], alpha[j], drive, 9.0)
        np.testing.assert_allclose(run.norm_sq[:, j], expected[:-1], rtol=1e-10)


def test_both_recursions_move_as_vectors_do() -> None:
    # SGD on actual vectors, whose h̃ is measured: norm and angle must follow to rounding.
    rng = np.random.default_rng(2)
    lr, decay, alpha, steps = 0.1, 0.05, 0.8, 300
    w = rng.standard_normal(20)
    v = np.zeros(20)
    norm0 = np.linalg.norm(w)
    norms, drives, angles = [], [], []
    for _ in range(steps):
        g = rng.standard_normal(20)
        g -= (g @ w) / (w @ w) * w
        g /= np.linalg.norm(w)
        norms.append(w @ w)
        drives.append((w @ w) * (g @ g + 2 * alpha * (v @ g)))
        v = alpha * v + g + decay * w
        after = w - lr * v
        across = np.linalg.norm(after - (after @ w) / (w @ w) * w)
        angles.append(math.atan2(across, (after @ w) / np.linalg.norm(w)))
        w = after
    run = simulate.norm_sgdm(lr, decay, alpha, np.array(drives), norm0=norm0, steps=steps, every=1)
    np.testing.assert_allclose(run.norm_sq, norms, rtol=1e-10)
    np.testing.assert_allclose(run.angle, angles, rtol=1e-9)


def test_without_momentum_the_two_are_one() -> None:
    given = {"norm0": 2.0, "steps": 2000, "every": 7, "seed": 5}
    a = simulate.norm_sgd(0.3, 0.02, Drive(4.0, noise=2.0), **given)
    b = simulate.norm_sgdm(0.3, 0.02, 0.0, Drive(4.0, noise=2.0), **given)
    np.testing.assert_array_equal(a.drive, b.drive)
    np.testing.assert_allclose(a.norm_sq, b.norm_sq, rtol=1e-12)
    np.testing.assert_allclose(a.angle, b.angle, rtol=1e-12)


def test_a_schedule_of_one_stage_is_no_schedule_and_a_change_keeps_the_buffer() -> None:
    drive = Drive(6.0, noise=3.0, sway=1.0, period=50.0)
    hp = sgd(0.1, 0.01, 0.9)
    one = simulate.norm_through(Schedule.constant(hp, 3000), drive, norm0=[2.0, 3.0], every=10)
    same = simulate.norm_sgdm(0.1, 0.01, 0.9, drive, norm0=[2.0, 3.0], steps=3000, every=10)
    np.testing.assert_allclose(one.norm_sq, same.norm_sq, rtol=1e-13)
    # v is carried: had the buffer been in units of steps, the first angle after a drop of 10
    # would be 10 times as large.
    plan = Schedule.step_decay(hp, steps=4000, milestones=[3000])
    run = simulate.norm_through(plan, 6.0, norm0=4.0, every=1)
    assert run.angle[3000] / run.angle[2999] == pytest.approx(0.1, rel=0.01)


# Against theory, which knows nothing of it


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("intrinsic", [1e-4, 1e-2, 0.5])
def test_a_constant_drive_ends_in_the_closed_form(momentum: float, intrinsic: float) -> None:
    hp = sgd(0.5, intrinsic / 0.5, momentum)
    steps = round(60 * (1 - momentum) / intrinsic) + 1000
    run = simulate.norm_sgdm(0.5, hp.weight_decay, momentum, 3.0, norm0=2.0, steps=steps)
    rest = theory.equilibrium_norm(hp, unit_grad_sq=3.0)
    assert math.sqrt(run.final_norm_sq) == pytest.approx(rest, rel=1e-9)
    assert run.angle[-1] == pytest.approx(theory.equilibrium_angle(hp), rel=1e-9)


def test_the_printed_equation_rests_a_share_of_the_intrinsic_rate_off() -> None:
    # 2ηλx² = Lη² against (2ηλ - (ηλ)²)x² = Lη²: x² is smaller by ηλ/2, as a share.
    x = np.array([1e-4, 1e-3, 1e-2, 1e-1])
    given = {"norm0": 1.0, "steps": 200_000}
    exact = simulate.norm_sgd(1.0, x, 5.0, **given).final_norm_sq
    printed = simulate.norm_sgd(1.0, x, 5.0, printed=True, **given).final_norm_sq
    np.testing.assert_allclose(1.0 - (printed / exact) ** 2, x / 2.0, rtol=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_approach_is_that_of_the_linear_law(momentum: float) -> None:
    rate = 4e-4 / (1 - momentum)
    steps = round(4.0 / rate)
    run = simulate.norm_sgdm(0.1, 1e-3, momentum, 10.0, norm0=16.0, steps=steps)
    norms = theory.driven_norm(
        sgd(0.1, 1e-3, momentum),
        16.0,
        lr=np.full(steps, 0.1),
        weight_decay=np.full(steps, 1e-3),
        momentum=np.full(steps, momentum),
        drive=10.0,
    )
    # The law leaves out that the buffer fills first: the norm waits for α/(1 - α) = 9 steps, in
    # which it would have shrunk by 9·ηλ/(1 - α), 0.9%.
    settled = run.step > 20 / (1 - momentum)
    np.testing.assert_allclose(
        run.norm[settled], norms[run.step[settled]], rtol=9e-3 if momentum else 2e-4
    )


@pytest.mark.parametrize("panel", sorted(WAN2021_DRIVES))
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_eight_panels_of_figures_3_and_4(panel: str, momentum: float) -> None:
    drive = WAN2021_DRIVES[panel]
    steps = 700_000  # one turn of the sine takes 628,319
    if momentum:
        run = simulate.norm_sgdm(0.1, 1e-3, momentum, drive, norm0=10**0.5, steps=steps)
    else:
        run = simulate.norm_sgd(0.1, 1e-3, drive, norm0=10**0.5, steps=steps)
    hp = sgd(0.1, 1e-3, momentum)
    settled = run.step > 10 * (1 - momentum) / 4e-4
    expected = drive.expected(run.step[settled])
    rest = np.array([theory.equilibrium_norm(hp, unit_grad_sq=x) ** 2 for x in expected])
    ratio = run.norm_sq[settled] / rest
    # L's noise has a coefficient of variation of 0.17, averaged over about 1/r steps: 0.2% of
    # |w|², 0.8% with momentum. The sine is followed with a lag of 1/r steps: 0.1% of |w|².
    assert ratio.mean() == pytest.approx(1.0, abs=1e-3)
    noisy = np.any(drive.noise)
    assert ratio.std() < (0.012 if momentum else 0.004) * (1.0 if noisy else 0.5)
    assert abs(ratio - 1.0).max() < (0.04 if momentum else 0.015)
    if noisy:
        assert ratio.std() > 5e-4


def test_without_decay_the_fourth_power_grows_by_the_drive() -> None:
    run = simulate.norm_sgd(0.1, 0.0, 10.0, norm0=1.0, steps=100_000)
    growth = (run.final_norm_sq**2 - 1.0) / (2 * 0.1**2 * 10.0 * 100_000)
    assert growth == pytest.approx(1.0, abs=1e-3)


# Drives


def test_noise_is_uniform_independent_and_repeatable() -> None:
    def run(seed: int, steps: int = 40_000):
        drive = Drive(10.0, noise=3.0)
        norm0 = np.full(2, 3.0)
        return simulate.norm_sgd(0.1, 1e-3, drive, norm0=norm0, steps=steps, every=1, seed=seed)

    first, again, other = run(0), run(0), run(1)
    np.testing.assert_array_equal(first.drive, again.drive)
    assert not np.array_equal(first.drive, other.drive)
    noise = (first.drive - 10.0) / 3.0
    assert noise.min() > -1.0
    assert noise.max() < 1.0
    assert noise.mean() == pytest.approx(0.0, abs=4 * math.sqrt(1 / 3 / noise.size))
    assert noise.var() == pytest.approx(1 / 3, abs=0.01)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 4 / math.sqrt(40_000)
    assert abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 4 / math.sqrt(40_000)


def test_pieces_do_not_show(monkeypatch) -> None:
    drive = Drive([10.0, 5.0, 8.0], noise=[1.0, 0.0, 3.0], sway=2.0, period=300.0)

    def run():
        return simulate.norm_sgdm(0.1, 0.01, 0.5, drive, norm0=2.0, steps=1000, every=3)

    whole = run()
    monkeypatch.setattr("spherical_motion.simulate.norms.PIECE", 21)
    pieces = run()
    np.testing.assert_array_equal(whole.norm_sq, pieces.norm_sq)
    np.testing.assert_array_equal(whole.angle, pieces.angle)


def test_every_kind_of_drive_that_says_the_same_does_the_same() -> None:
    given = {"norm0": [2.0, 3.0], "steps": 500, "every": 1}
    number = simulate.norm_sgd(0.1, 0.01, 7.0, **given)
    for drive in (
        Drive(7.0),
        Drive([7.0, 7.0]),
        np.full(500, 7.0),
        np.full((500, 2), 7.0),
        Drive(7.0, noise=[0.0, 0.0]),
    ):
        np.testing.assert_array_equal(
            simulate.norm_sgd(0.1, 0.01, drive, **given).norm_sq, number.norm_sq
        )


def test_settings_broadcast_and_numbers_stay_numbers() -> None:
    run = simulate.norm_sgdm(
        np.full((3, 1), 0.1), np.full(4, 0.01), 0.9, 5.0, norm0=2.0, steps=2500
    )
    assert run.norm_sq.shape == run.angle.shape == (1250, 3, 4)
    assert run.final_norm_sq.shape == (3, 4)
    single = simulate.norm_sgdm(0.1, 0.01, 0.9, 5.0, norm0=2.0, steps=2500)
    assert single.norm_sq.shape == (1250,)
    assert isinstance(float(single.final_norm_sq), float)
    np.testing.assert_array_equal(single.norm_sq, run.norm_sq[:, 1, 2])
    assert run.step[-1] == 2498


def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    def peak(steps: int) -> int:
        tracemalloc.start()
        lr = np.linspace(0.01, 0.1, 100)
        simulate.norm_sgd(
            lr, 1e-3, Drive(10.0, noise=3.0), norm0=3.0, steps=steps, every=steps // 100
        )
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1000)
    assert peak(100_000) < 1.1 * peak(10_000)


# Bad input


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        ({"lr": -0.1}, OutOfDomain, r"lr=\.\.\.\) must be finite and >= 0, got -0.1"),
        ({"lr": [0.1, math.nan]}, OutOfDomain, "lr=.*got nan"),
        (
            {"momentum": 1.0},
            OutOfDomain,
            r"momentum=.* finite, >= 0 and < 1, got 1.0",
        ),
        ({"norm0": 0.0}, OutOfDomain, r"norm0=\.\.\.\) must be finite and > 0, got 0.0"),
        ({"lr": 20.0, "weight_decay": 0.2}, OutOfDomain, r"< 3\.8, got 4: beyond it"),
        ({"steps": 0}, InvalidArgument, r"steps=\.\.\.\) must be an int >= 1, got 0"),
        ({"every": 0}, InvalidArgument, r"every=\.\.\.\) must be an int >= 1, got 0"),
        ({"lr": [0.1, 0.2], "norm0": [1.0] * 3}, InvalidArgument, r"not empty, got shapes \(2,\)"),
        ({"lr": []}, InvalidArgument, r"not empty, got shapes \(0,\)"),
        ({"drive": [1.0, 2.0]}, InvalidArgument, r"shape \(100,\), got \(2,\)"),
        (
            {"drive": np.full(100, math.inf)},
            OutOfDomain,
            "a finite number, got inf at index 0",
        ),
        ({"drive": np.full(100, -9.0)}, OutOfDomain, r"left \(0, ∞\) between steps 0 and 100"),
        ({"drive": Drive([1.0, 2.0]), "lr": [0.1] * 3}, InvalidArgument, "one shape"),
    ],
)
def test_bad_settings(change: dict, error, found: str) -> None:
    given = {
        "lr": 0.1,
        "weight_decay": 0.01,
        "momentum": 0.9,
        "drive": 5.0,
        "norm0": 1.0,
        "steps": 100,
    }
    with pytest.raises(error, match=found):
        simulate.norm_sgdm(**(given | change))


def test_bad_drives() -> None:
    with pytest.raises(OutOfDomain, match=">= 0, since L is a squared norm; its lowest value is"):
        Drive(1.0, noise=2.0)
    with pytest.raises(OutOfDomain, match=r"noise=\.\.\.\) must be finite and >= 0, got -1"):
        Drive(1.0, noise=-1.0)
    with pytest.raises(OutOfDomain, match=r"period=\.\.\.\) must be finite and > 0, got 0"):
        Drive(1.0, period=0.0)
    with pytest.raises(OutOfDomain, match=r"Drive\(mean=\.\.\.\) must be a finite number, got nan"):
        Drive(math.nan)
    with pytest.raises(OutOfDomain, match=r"and >= 0, got -1\.0 at index 1"):
        simulate.norm_sgd(0.1, 0.1, [1.0, -1.0], norm0=1.0, steps=2)
    with pytest.raises(OutOfDomain, match=r"< 0\.5, got 0\.6"):
        simulate.norm_sgd(1.0, 0.6, 1.0, norm0=1.0, steps=2, printed=True)


def test_other_optimizers_have_no_norm_recursion() -> None:
    hp = HyperParameters("sgd", lr=0.1, momentum=0.9, nesterov=True)
    with pytest.raises(NoTheory, match="random_walk"):
        simulate.norm_through(Schedule.constant(hp, 10), 1.0, norm0=1.0)
