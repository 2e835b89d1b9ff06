"""Rest under a pull, against the simulators, which know none of the closed forms."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from driven_weights import products

from spherical_motion import simulate, sphere, theory
from spherical_motion.errors import InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.vocabulary import Gram, HyperParameters


def sgd(lr: float, weight_decay: float, momentum: float = 0.0, **kind: Any) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum, **kind)


HEAVY = sgd(0.1, 0.1, 0.8)
KINDS = {
    "plain": sgd(0.1, 0.1),
    "heavy ball": HEAVY,
    "dampened": sgd(0.2, 0.1, 0.8, dampening=0.5),
    "Nesterov": sgd(0.1, 0.1, 0.8, nesterov=True),
    "decoupled": sgd(0.1, 0.1, 0.8, decoupled=True),
}
ADAM = {
    "AdamW": HyperParameters("adamw", lr=0.01, weight_decay=0.5, betas=(0.9, 0.999)),
    "Adam": HyperParameters("adam", lr=0.005, weight_decay=0.05, betas=(0.9, 0.999)),
}


def settled(hp: HyperParameters, **more: Any) -> Gram:
    """Steps at rest, of several replicas put after one another."""
    told: dict[str, Any] = {"shape": (100,), "replicas": 4, "steps": 800, "burn_in": 800}
    return simulate.random_walk(hp, **{**told, **more}).gram


def measured_angle(gram: Gram) -> float:
    return float(np.sqrt((gram.ww * sphere.angle(gram) ** 2).sum() / gram.ww.sum()))


def mean_pull(hp: HyperParameters, gram: Gram) -> float:
    settings = {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}
    one = [
        theory.balance(hp, gram[:, i], steps=np.arange(len(gram.ww)), **settings)
        for i in range(gram.shape[1])
    ]
    return float(np.mean([b.pull for b in one]))


# The angle at rest


@pytest.mark.parametrize("kappa", [-0.9, -0.5, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", KINDS)
def test_the_angle_at_rest_with_a_radial_force_is_the_simulated_one(name, kappa) -> None:
    hp = KINDS[name]
    if hp.decoupled and kappa < 0:
        kappa *= 0.2  # κ/(1 - α) counts
    kappa *= hp.weight_decay
    pull = theory.balance(
        hp,
        Gram(*np.ones((6, 2))),
        steps=[0, 1],
        lr=hp.lr,
        weight_decay=hp.weight_decay,
        momentum=hp.momentum,
    )
    assert math.isnan(pull.ratio)  # two steps say nothing; the pull below is by hand
    scale = {"dampened": 0.5, "decoupled": 5.0}.get(name, 1.0)
    p = hp.weight_decay + scale * kappa if hp.decoupled else scale * (hp.weight_decay + kappa)
    start = (1.0 / max(p, 1e-3)) ** 0.25
    gram = settled(hp, radial=kappa, norm0=start, burn_in=1500 if kappa < 0 else 500)
    expected = theory.pulled_angle(hp, p)
    # Growth that is left, the radial share of a hundred entries (1%), Monte Carlo.
    assert measured_angle(gram) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ADAM)
@pytest.mark.parametrize("kappa", [-0.02, 0.05])
def test_adams_angle_at_rest_with_a_radial_force(name: str, kappa: float) -> None:
    hp = ADAM[name]
    gram = settled(hp, radial=lambda norm: kappa / norm**2, burn_in=1500, norm0=1.0)
    p = mean_pull(hp, gram)
    if name == "AdamW":
        # ⟨w, Pg⟩ = κ'·|w| with 1/P about the gradient's size per entry, 1/(|w|·√numel).
        assert p - hp.weight_decay == pytest.approx(
            10.0 * kappa / gram.ww.mean() ** 0.5, rel=0.1, abs=0.02
        )
    assert measured_angle(gram) == pytest.approx(theory.pulled_angle(hp, p), rel=0.02)


def test_without_decay_an_inward_loss_has_an_equilibrium() -> None:
    hp = sgd(0.1, 0.0, 0.8)
    gram = settled(hp, radial=0.1, norm0=1.6)
    assert measured_angle(gram) == pytest.approx(theory.pulled_angle(hp, 0.1), rel=0.02)
    assert theory.pulled_angle(hp, 0.1) == theory.equilibrium_angle(HEAVY)


@pytest.mark.parametrize("name", [*KINDS, *ADAM])
def test_a_pull_of_the_weight_decay_alone_is_the_plain_law(name: str) -> None:
    hp = {**KINDS, **ADAM}[name]
    p = hp.weight_decay * (0.5 if name == "dampened" else 1.0)
    if name == "Adam":  # its plain law gives the pull, λ|w*|/σ
        facts = {"numel": 1000.0, "unit_grad_rms": 0.05}
        p *= theory.equilibrium_norm(hp, **facts) / facts["unit_grad_rms"]
        assert theory.pulled_angle(hp, p) == pytest.approx(
            theory.equilibrium_angle(hp, **facts), rel=1e-12
        )
        return
    assert theory.pulled_angle(hp, p) == pytest.approx(theory.equilibrium_angle(hp), rel=1e-12)
    # And the limit is continuous.
    near = theory.pulled_angle(hp, p * (1.0 + 1e-9))
    assert near == pytest.approx(theory.equilibrium_angle(hp), rel=1e-8)


def test_nesterovs_overlap_counts_as_in_the_plain_law() -> None:
    hp = KINDS["Nesterov"]
    plain = theory.equilibrium_angle(hp, overlap=-0.2)
    assert theory.pulled_angle(hp, 0.1, overlap=-0.2) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("name", [*KINDS, *ADAM])
def test_the_angle_goes_as_the_root_of_the_pull(name: str) -> None:
    hp = dataclasses.replace({**KINDS, **ADAM}[name], weight_decay=0.0)
    pulls = np.geomspace(1e-6, 1e-3, 7)
    angles = [theory.pulled_angle(hp, p) for p in pulls]
    slope = np.polyfit(np.log(pulls), np.log(angles), 1)[0]
    assert slope == pytest.approx(0.5, abs=1e-3)


def test_balance_only_optimizers_have_an_angle_at_rest_with_their_pull() -> None:
    for name in ("amsgrad", "radam", "adamax"):
        hp = HyperParameters(name, lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
        other = HyperParameters("adam", lr=0.01, betas=(0.9, 0.99))
        assert theory.pulled_angle(hp, 0.2) == theory.pulled_angle(other, 0.2)
        with pytest.raises(NoTheory, match="no closed form"):
            theory.equilibrium_angle(hp)
        with pytest.raises(NoTheory, match="no closed form"):
            theory.pulled_norm(hp, 0.1, norm=1.0, step_ratio=0.1)
    hp = HyperParameters("rmsprop", lr=0.01, momentum=0.9)
    angle = theory.pulled_angle(sgd(0.01, 0.0, 0.9), 0.2)
    assert theory.pulled_angle(hp, 0.2) == pytest.approx(angle)
    with pytest.raises(NoTheory, match="lion"):
        theory.pulled_angle(HyperParameters("lion", lr=0.1, betas=(0.9, 0.99)), 0.1)


# No rest


@pytest.mark.parametrize("name", ["heavy ball", "Nesterov", "decoupled"])
def test_a_pull_outward_has_no_rest_and_the_norm_grows(name: str) -> None:
    hp = KINDS[name]
    gram = simulate.random_walk(hp, steps=600, replicas=2, radial=-1.2 * hp.weight_decay).gram
    norms = sphere.norm(gram)
    assert (norms[300:] > norms[:300] * 1.2).all()
    assert mean_pull(hp, gram[300:]) < 0
    for pull in (0.0, -0.02):
        with pytest.raises(OutOfDomain, match=r"> 0, got .*grows\. Raise the weight decay"):
            theory.pulled_angle(hp, pull)
        with pytest.raises(OutOfDomain, match="grows"):
            theory.pulled_norm(hp, pull, norm=1.0, step_ratio=0.1)
        with pytest.raises(OutOfDomain, match="grows"):
            theory.steps_to_rest_with_pull(hp, pull, step_ratio=0.1)


def test_where_loss_and_decay_cancel_the_angle_is_an_interval_or_unknown() -> None:
    hp = sgd(0.1, 1e-3, 0.9)
    middle = theory.pulled_angle(hp, 1e-3 / 15)
    with pytest.raises(OutOfDomain, match=r"unknown, because .* all but 1/25"):
        theory.pulled_angle(hp, 1e-3 / 25)
    low, high = theory.pulled_angle_interval(hp, 0.3e-3 / 15, 1.7e-3 / 15)
    assert middle - low > high - middle > 0  # asymmetric
    assert low / middle == pytest.approx(math.sqrt(0.3), rel=1e-4)
    assert theory.pulled_angle_interval(hp, -1e-5, 1e-4) == (0.0, theory.pulled_angle(hp, 1e-4))
    with pytest.raises(OutOfDomain, match="grows"):
        theory.pulled_angle_interval(hp, -1e-4, -1e-5)
    with pytest.raises(InvalidArgument, match="high"):
        theory.pulled_angle_interval(hp, 1e-3, 1e-4)


def test_errors_of_the_pull_are_magnified_by_the_cancellation() -> None:
    """The same error of κ moves the angle by λ/p times as much, over 2."""
    hp, error = sgd(0.1, 1e-3, 0.9), 1e-7
    for p in (1e-3, 1e-4):
        low, high = theory.pulled_angle_interval(hp, p - error, p + error)
        spread = (high - low) / 2.0 / theory.pulled_angle(hp, p)
        assert spread == pytest.approx(error / p / 2.0, rel=1e-3)


# An epsilon


def test_the_epsilon_of_a_norm_layer_is_a_pull() -> None:
    """y = w/√(|w|² + ε) with a loss that wants y longer: g = J·h pushes w outward."""
    hp, epsilon, longer = sgd(0.1, 0.1, 0.8), 0.5, -0.1
    rng = np.random.default_rng(0)
    w = rng.standard_normal(100)
    w /= np.linalg.norm(w)
    buffer, rows = np.zeros(100), []
    for _ in range(6000):
        size = w @ w + epsilon
        h = 0.1 * rng.standard_normal(100) + longer * w / np.linalg.norm(w)
        g = (h - w * (w @ h) / size) / math.sqrt(size)
        buffer = hp.momentum * buffer + g + hp.weight_decay * w
        d = -hp.lr * buffer
        rows.append([w @ w, w @ d, d @ d, w @ g, g @ g, d @ g])
        w = w + d
    gram = Gram.from_array(rows)[1000:]
    p = mean_pull(hp, Gram.stack([gram], axis=1))
    assert p < 0.9 * hp.weight_decay
    measured = measured_angle(gram)
    assert measured == pytest.approx(theory.pulled_angle(hp, p), rel=0.02)
    assert measured < 0.95 * theory.equilibrium_angle(hp)


# The norm at rest, and the way to it


@pytest.mark.parametrize("kappa", [-0.5, 0.0, 2.0])
@pytest.mark.parametrize("name", [*KINDS, "AdamW"])
def test_the_norm_at_rest_is_the_simulated_one(name: str, kappa: float) -> None:
    if name == "AdamW" and kappa:
        return  # its pull is not constant
    hp = {**KINDS, **ADAM}[name]
    hp = dataclasses.replace(hp, lr=hp.lr / 4.0)
    kappa *= hp.weight_decay * (0.2 if hp.decoupled else 1.0)
    told: dict[str, Any] = {"shape": (100,), "replicas": 4, "radial": kappa, "norm0": 1.5}
    early = simulate.random_walk(hp, steps=6, burn_in=30, **told).gram
    late = simulate.random_walk(hp, steps=300, burn_in=1000, **{**told, "norm0": 0.6}).gram
    found = theory.pulled_norm(
        hp,
        hp.weight_decay if name == "AdamW" else mean_pull(hp, early),
        norm=math.sqrt(early.ww.mean()),
        step_ratio=math.sqrt(early.dd.mean() / early.ww.mean()),
    )
    # Leading order in ηp/(1 - α), a few percent here; AdamW's decay is in D, too.
    assert found == pytest.approx(math.sqrt(late.ww.mean()), rel=0.08)


@pytest.mark.parametrize("name", ["heavy ball", "Nesterov", "decoupled", "AdamW", "Adam"])
def test_norm_and_time_agree_with_the_plain_laws_where_decay_alone_pulls(name: str) -> None:
    hp = dataclasses.replace({**KINDS, **ADAM}[name], lr=1e-4)
    facts = {"unit_grad_sq": 3.0, "numel": 1000.0, "unit_grad_rms": 0.05}
    norm = 2.0 * theory.equilibrium_norm_approx(hp, **facts)
    drive = {"AdamW": 1000.0, "Adam": 0.05}.get(name, 3.0)
    ratio_sq = theory.driven_step_ratio_sq(
        hp, norm, lr=hp.lr, momentum=hp.momentum, drive=drive, **facts
    )
    p = hp.weight_decay * (norm / 0.05 if name == "Adam" else 1.0)
    told = {"step_ratio": math.sqrt(float(ratio_sq))}
    found = theory.pulled_norm(hp, p, norm=norm, **told)
    assert found == pytest.approx(theory.equilibrium_norm_approx(hp, **facts), rel=1e-4)
    excess = theory.excess_of(hp, norm, **facts)
    steps = theory.steps_to_within(hp, excess, within=0.05, **facts)
    assert theory.steps_to_rest_with_pull(hp, p, **told) == pytest.approx(steps, rel=1e-3)
    light = {"step_ratio": math.sqrt(float(ratio_sq)) * 20.0}
    assert theory.pulled_norm(hp, p, norm=norm, **light) > norm
    assert theory.steps_to_rest_with_pull(hp, p, **light) > 0


def test_the_time_to_rest_is_the_simulated_one() -> None:
    hp, kappa = sgd(0.02, 0.1, 0.5), 0.2
    rest = settled(hp, radial=kappa, norm0=0.6, burn_in=300, steps=300)
    gram = simulate.random_walk(
        hp, shape=(100,), replicas=8, steps=500, norm0=1.2, radial=kappa, burn_in=5
    ).gram
    first = float(gram.dd[:10].mean() / gram.ww[:10].mean())
    p, smooth = hp.weight_decay + kappa, np.ones(20) / 20
    expected = theory.steps_to_rest_with_pull(hp, p, step_ratio=math.sqrt(first), within=0.1)
    angle = np.sqrt(np.convolve((gram.dd / gram.ww).mean(axis=1), smooth, "valid"))
    goal = 0.9 * math.sqrt(rest.dd.mean() / rest.ww.mean())
    assert np.argmax(angle > goal) + 5 == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.7])
@pytest.mark.parametrize("start", [0.2, 5.0])
def test_time_and_norm_follow_the_law_integrated_step_by_step(power: float, start: float) -> None:
    """s·dR/R = (D/R)/f - 2ηp with D/R ∝ R^-2 and p ∝ R^e, by small steps."""
    hp, at_rest = sgd(0.01, 1e-2, 0.9), 4.0
    f, s = theory.law_of(hp).form(hp, theory.GroupFacts())
    size, t = start * at_rest, 0
    rate = 2.0 * hp.lr * hp.weight_decay  # 2ηp at rest

    def now(R: float) -> tuple[float, float]:
        return rate * f * (R / at_rest) ** -2, hp.weight_decay * (R / at_rest) ** power

    ratio_sq, p = now(size)
    told = {"step_ratio": math.sqrt(ratio_sq), "pull_power": power}
    assert theory.pulled_norm(hp, p, norm=math.sqrt(size), **told) == pytest.approx(2.0, rel=1e-9)
    expected = theory.steps_to_rest_with_pull(hp, p, within=0.05, **told)
    while abs(math.sqrt(now(size)[0] / (rate * f)) - 1.0) > 0.05:
        ratio_sq, p = now(size)
        size *= math.exp((ratio_sq / f - 2.0 * hp.lr * p) / s)
        t += 1
    assert expected == pytest.approx(t, rel=6e-3, abs=2)


def test_a_pull_that_lets_go_is_refused() -> None:
    with pytest.raises(OutOfDomain, match="pull_power must be > -2"):
        theory.pulled_norm(HEAVY, 0.1, norm=1.0, step_ratio=0.1, pull_power=-2.0)
    at_rest = math.sqrt(theory.law_of(HEAVY).rest_ratio_sq(HEAVY, 0.1, theory.GroupFacts()))
    assert theory.steps_to_rest_with_pull(HEAVY, 0.1, step_ratio=1.02 * at_rest) == 0.0
    assert theory.pulled_norm(HEAVY, 0.1, norm=3.0, step_ratio=at_rest) == pytest.approx(3.0)


# Angle and step


def test_a_steps_angle_follows_from_its_length_and_the_norms() -> None:
    rng = np.random.default_rng(0)
    w, d = rng.standard_normal((2, 500, 20))
    d *= 10.0 ** rng.uniform(-6, 1, (500, 1))
    gram = Gram(*((a * b).sum(axis=1) for a, b in ((w, w), (w, d), (d, d), (w, w), (w, w), (w, w))))
    found = [
        theory.angle_of_step(float(a), float(b))
        for a, b in zip(
            sphere.step_norm(gram) / sphere.norm(gram), sphere.radius_ratio(gram), strict=True
        )
    ]
    np.testing.assert_allclose(found, sphere.angle(gram), rtol=1e-7)
    with pytest.raises(OutOfDomain, match=r"between 0\.5 and 2\.5 times"):
        theory.angle_of_step(0.4, 1.5)


@pytest.mark.parametrize("entries", [10, 50, 400])
def test_mean_angle_and_step_differ_by_the_radial_share(entries: int) -> None:
    # Gradients in all directions, also along w.
    hp, rng = sgd(0.01, 0.1, 0.0), np.random.default_rng(0)
    gram = products(
        hp, [(0.01, 0.1, 0.0)] * 2000, lambda t, w: rng.standard_normal(w.size), dimension=entries
    )
    gram = gram[500:]
    share = theory.radial_share(gram)
    assert share == pytest.approx(1.0 / entries, rel=0.2)
    ratio = measured_angle(gram) ** 2 / (gram.dd.sum() / gram.ww.sum())
    assert ratio == pytest.approx(1.0 - share, abs=0.003)


def test_muon_in_balance_by_the_correlation_of_its_updates() -> None:
    hp = HyperParameters("muon", lr=0.01, weight_decay=0.3, momentum=0.8)
    walk = simulate.random_walk(hp, shape=(8, 12), steps=1500, burn_in=400, lags=15)
    c = theory.largest_correlation_sum(walk.autocorrelation, hp.momentum)
    settings = {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}
    found = theory.balance(hp, walk.gram[:, 0], steps=np.arange(1500), correlation=c, **settings)
    assert found.ratio == pytest.approx(1.0, abs=0.06)
    assert found.pull == pytest.approx(hp.weight_decay, rel=1e-12)
    assert found.neglects.startswith("how the updates pull on the norm")
    assert "measured" not in found.neglects  # what was measured is not left out
    angle = theory.pulled_angle(hp, 0.3, correlation=c)
    assert angle == pytest.approx(theory.equilibrium_angle(hp, correlation=c))
    none = theory.balance(hp, walk.gram[:, 0], steps=np.arange(1500), **settings)
    assert "correlation" in none.unknown
