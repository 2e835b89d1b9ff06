"""The step law on simulated SGD: silent in health, and a fault is found, dated and fitted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from faulty import cosine, sgd
from faulty import products as products_of
from motions import motions_of, whole

from spherical_motion.comparison.laws import step_law, step_law_of
from spherical_motion.comparison.laws.step_law import most_failing
from spherical_motion.vocabulary import Stage

STEPS = 200
DECLARED = (0.1, 5e-3, 0.9)
SETTINGS = [DECLARED] * STEPS
NESTEROV = {"nesterov": True}


def found(directory, products, settings=SETTINGS, mixed=(), **kwargs):
    motion = motions_of(directory / "run", {"conv": products}, settings, **kwargs)["conv"]
    return step_law_of(motion, whole(motion), mixed)


def real(**changes: float) -> list[tuple[float, float, float]]:
    names = ("lr", "weight_decay", "momentum")
    return [tuple(changes.get(n, x) for n, x in zip(names, DECLARED, strict=True))] * STEPS


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("varies", [False, True])
@pytest.mark.parametrize(
    "rule", [{}, NESTEROV, {"dampening": 0.3}, {"along": 0.2}, {"inward": 1e-3}], ids=str
)
def test_healthy_steps_leave_only_rounding(tmp_path, dtype, varies, rule) -> None:
    settings = cosine(*DECLARED, STEPS) if varies else SETTINGS
    told = {k: v for k, v in rule.items() if k in ("nesterov", "dampening")}
    products = sgd(settings, dtype=dtype, **rule)
    law = found(tmp_path, products, settings, optimizer=told, dtype=dtype.__name__)
    assert law.pairs == STEPS - 1
    assert law.median <= (1e-12 if dtype is np.float64 else 1e-5)
    assert (law.failing, law.first, law.fit, law.spikes) == (0, None, None, 0)


FAULTS = {
    # what is real: the settings that the fit must name, in certified and in plain groups
    "momentum": ({"momentum": 0.85}, ("momentum",), ("momentum",)),
    "decay": ({"weight_decay": 4.5e-3}, ("weight_decay",), ("weight_decay",)),
    "rate": ({"lr": 0.2}, ("weight_decay",), ("lr",)),
    "no momentum": ({"momentum": 0.0}, ("momentum",), ("momentum",)),
    "no decay": ({"weight_decay": 0.0}, ("weight_decay",), ("weight_decay",)),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_one_wrong_setting_is_fitted_to_five_digits(tmp_path, fault, plain, dtype) -> None:
    changes, *expected = FAULTS[fault]
    products = sgd(real(**changes), dtype=dtype, along=0.2 * plain)
    kind = "plain" if plain else "scale"
    law = found(tmp_path, products, kind=kind, dtype=dtype.__name__)
    assert (law.first, law.last, law.spikes) == (1, STEPS - 1, 0)
    fit = law.fit
    assert fit is not None
    assert fit.explains
    assert fit.changed == expected[plain]
    assert fit.declared == pytest.approx(DECLARED)
    value = getattr(fit, fit.changed[0])
    truth = changes.get(fit.changed[0], DECLARED[1] * 2)
    assert value.value == pytest.approx(truth, rel=1e-5, abs=1e-6)
    assert value.high - value.low < 1e-4
    if fault in ("decay", "rate") and not plain:
        assert fit.possible == (("weight_decay",), ("lr",))
        assert math.isnan(fit.lr.value)  # only lr × weight decay is determined


@pytest.mark.parametrize("nesterov", [False, True])
def test_all_three_settings_at_once(tmp_path, nesterov) -> None:
    products = sgd(
        real(lr=0.2, weight_decay=4e-3, momentum=0.8),
        dtype=np.float32,
        along=0.3,
        nesterov=nesterov,
    )
    told = {"nesterov": nesterov}
    fit = found(tmp_path, products, kind="plain", optimizer=told).fit
    assert fit is not None
    assert fit.changed == ("momentum", "weight_decay", "lr")
    values = (fit.lr.value, fit.weight_decay.value, fit.momentum.value)
    assert values == pytest.approx((0.2, 4e-3, 0.8), rel=1e-5)


@pytest.mark.parametrize("onset", [37, 113, 190])
def test_the_step_from_which_it_fails_is_found(tmp_path, onset) -> None:
    settings = SETTINGS[:onset] + real(momentum=0.85)[onset:]
    law = found(tmp_path, sgd(settings, dtype=np.float32))
    assert (law.first, law.last) == (onset, STEPS - 1)
    assert law.fit is not None
    assert law.fit.momentum.value == pytest.approx(0.85, rel=1e-5)


def test_a_long_stretch_is_fitted_at_its_beginning(tmp_path, monkeypatch) -> None:
    products = sgd(SETTINGS[:40] + real(momentum=0.85)[40:], dtype=np.float32)
    long = found(tmp_path / "long", products).fit
    monkeypatch.setattr(step_law, "FITTED", 30)
    short = found(tmp_path / "short", products).fit
    assert long is not None
    assert short is not None
    assert (long.pairs, short.pairs) == (STEPS - 40, 30)
    assert (long.first, long.last) == (short.first, short.last) == (40, STEPS - 1)
    assert short.momentum.value == pytest.approx(0.85, rel=1e-5)


def test_a_stretch_that_ends_again(tmp_path) -> None:
    settings = SETTINGS[:60] + real(momentum=0.85)[60:90] + SETTINGS[90:]
    law = found(tmp_path, sgd(settings, dtype=np.float32))
    assert (law.first, law.last, law.stretch) == (60, 89, 30)


def test_single_steps_are_spikes_and_have_no_fit(tmp_path) -> None:
    law = found(tmp_path, sgd(SETTINGS, dtype=np.float32, reset=(50, 110, 170)))
    assert (law.failing, law.spikes, law.spike_steps) == (3, 3, (50, 110, 170))
    assert law.median <= 1e-5
    assert law.worst > 0.1
    assert law.fit is None


def test_the_worst_step_is_one_that_fails(tmp_path, monkeypatch) -> None:
    assert math.isnan(found(tmp_path / "healthy", sgd(SETTINGS, dtype=np.float32)).worst)
    products = sgd(SETTINGS, dtype=np.float32, reset=(50,))
    largest = found(tmp_path / "reset", products).worst
    products[120, 1] *= 1.01
    both = found(tmp_path / "both", products)
    assert both.spike_steps[:2] == (50, 120)
    assert both.worst == largest
    # Rounding explains the reset, not the smaller error.
    real_steps = step_law.tested_steps

    def explained(motion, stage):
        tested = real_steps(motion, stage)
        noise, most = tested.noise.copy(), tested.most.copy()
        noise[45:56] = most[45:56] = math.inf
        return dataclasses.replace(tested, noise=noise, most=most)

    monkeypatch.setattr(step_law, "tested_steps", explained)
    law = found(tmp_path / "explained", products)
    assert law.spike_steps[0] == 120
    assert law.worst < largest / 2


def test_a_short_stretch_has_its_own_residual_and_too_few_steps_to_fit(tmp_path) -> None:
    settings = SETTINGS[:60] + real(momentum=0.5)[60:64] + SETTINGS[64:]
    law = found(tmp_path, sgd(settings, dtype=np.float32))
    assert (law.first, law.last, law.stretch, law.fit) == (60, 63, 4, None)
    assert law.median < 1e-5 < 1e-2 < law.broken
    assert law.broken > law.broken_allowed


@pytest.mark.parametrize(
    ("declared", "made", "form"),
    [
        ({}, {"decoupled": True}, "decoupled weight decay"),
        ({"decoupled_weight_decay": True}, {}, "weight decay through the gradient"),
        ({}, {"nesterov": True}, "Nesterov momentum"),
        (NESTEROV, {}, "heavy-ball momentum"),
    ],
)
def test_another_update_rule_is_named(tmp_path, declared, made, form) -> None:
    law = found(tmp_path, sgd(SETTINGS, along=0.2, **made), optimizer=declared, dtype="float64")
    assert law.fit is not None
    assert law.fit.form == form
    assert law.fit.explains
    assert law.fit.residual < 1e-12


def test_steps_that_no_settings_explain_have_no_settings(tmp_path) -> None:
    products = sgd(SETTINGS)
    products[:, 3] += 5e-3 * np.random.default_rng(0).standard_normal(STEPS) * products[:, 0]
    fit = found(tmp_path, products, dtype="float64").fit
    assert fit is not None
    assert not fit.explains
    assert (fit.changed, fit.possible, fit.form) == ((), (), "")
    assert math.isnan(fit.momentum.value)
    assert fit.residual == fit.before > 1e-2


def test_the_error_of_a_fit_falls_as_the_steps_grow_in_number(tmp_path) -> None:
    """Rounding is independent from step to step: the interval shrinks as 1/√steps."""
    counts = np.array([50, 200, 800])
    settings = [(0.1, 5e-3, 0.85)] * int(counts[-1])
    declared = [DECLARED] * int(counts[-1])
    products = sgd(settings, dtype=np.float32, along=0.3)
    motion = motions_of(tmp_path / "run", {"a": products}, declared)["a"]
    widths = []
    for count in counts:
        fit = step_law_of(motion, Stage(0, int(count), None)).fit
        assert fit is not None
        widths.append(fit.momentum.high - fit.momentum.low)
        assert fit.momentum.low < 0.85 + 1e-7
        assert fit.momentum.high > 0.85 - 1e-7
    slope = np.polyfit(np.log(counts), np.log(widths), 1)[0]
    assert -0.75 < slope < -0.3


def test_bursts_missing_gradients_writes_and_resumes_are_left_out(tmp_path) -> None:
    sampled = [t for t in range(STEPS) if t % 10 < 2]
    law = found(tmp_path / "b", sgd(SETTINGS, dtype=np.float32), steps=sampled)
    assert (law.pairs, law.failing) == (STEPS // 10, 0)

    written = sgd(SETTINGS, between=lambda t, w: w * 1.01 if t % 50 == 0 else None)
    law = found(tmp_path / "w", written, dtype="float64")
    assert (law.pairs, law.failing) == (STEPS - 1 - 4, 0)

    products = sgd(SETTINGS)
    idle = np.array([products[60, 0], 0.0, 0.0, np.nan, np.nan, np.nan])
    law = found(tmp_path / "i", np.vstack([products[:60], idle, products[60:-1]]), dtype="float64")
    assert (law.pairs, law.failing) == (STEPS - 2, 0)

    law = found(
        tmp_path / "r", sgd(SETTINGS, reset=(100,)), dtype="float64", events=[("resumed", 100)]
    )
    assert (law.pairs, law.failing) == (STEPS - 2, 0)


def test_without_momentum_every_sample_is_tested(tmp_path) -> None:
    settings = [(0.1, 5e-3, 0.0)] * STEPS
    sampled = list(range(0, STEPS, 7))
    law = found(tmp_path, sgd(settings, along=0.1), settings, steps=sampled, dtype="float64")
    assert (law.pairs, law.failing) == (len(sampled), 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_too_coarse_for_the_steps_are_not_tested(tmp_path, dtype) -> None:
    settings = [(1e-3, 5e-3, 0.9)] * STEPS
    law = found(tmp_path, sgd(settings), settings, dtype=dtype)
    assert law.unknown == f"the steps are too small for {dtype} weights"


def test_float16_weights_of_large_steps_are_healthy_within_their_rounding(tmp_path) -> None:
    settings = [(0.5, 5e-3, 0.9)] * STEPS
    products = sgd(settings, dtype=np.float16, norm0=4.0, size=lambda t: 4.0)
    law = found(tmp_path, products, settings, dtype="float16")
    assert law.unknown == ""
    assert law.failing == 0
    assert law.allowed > 1e-3


def test_mixed_settings(tmp_path) -> None:
    products = sgd(SETTINGS)
    decays = ((0.1, 5e-3, 0.9), (0.1, 0.0, 0.9))
    assert not found(tmp_path / "a", products, mixed=decays, dtype="float64").unknown
    for mixed, told in (
        (((0.1, 5e-3, 0.9), (0.2, 5e-3, 0.9)), {}),
        (((0.1, 5e-3, 0.9), (0.1, 5e-3, 0.8)), {}),
        (decays, NESTEROV),
    ):
        name = str(abs(hash(str((mixed, told)))))
        law = found(tmp_path / name, products, mixed=mixed, optimizer=told)
        assert law.unknown == "the members' settings differ"


def test_adam_has_no_law_of_motion(tmp_path) -> None:
    told = {"class": "AdamW", "betas": [0.9, 0.99]}
    assert found(tmp_path, sgd(SETTINGS), optimizer=told).unknown == "AdamW has no law of motion"


def test_maximizing_turns_the_gradient_around(tmp_path) -> None:
    products = sgd(SETTINGS, along=0.2)
    products[:, [3, 5]] *= -1.0
    law = found(tmp_path, products, optimizer={"maximize": True}, dtype="float64")
    assert law.failing == 0


def test_the_most_failing_stretch_is_that_of_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        fails = rng.random(12) < rng.uniform(0.1, 0.9)
        score = np.where(fails, 1, -1)
        ends = [(a, b) for a in range(13) for b in range(a, 13)]
        best = max(score[a:b].sum() for a, b in ends)
        start, stop = most_failing(fails)
        assert score[start:stop].sum() == max(best, 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [3e-3, 3e-2])
def test_noise_in_the_steps_is_no_other_setting(tmp_path, seed, size) -> None:
    """At a huge learning rate the law's terms were small beside what rounding left at the real one.

    Steps of noise are then those of a rate thousands of times as large, with a residual near 1.
    """
    rng = np.random.default_rng(seed)
    w, v, rows = rng.standard_normal(200).astype(np.float32), np.zeros(200, np.float32), []
    for _ in SETTINGS:
        g = 0.1 * rng.standard_normal(200)
        g = (g - (g @ w) / (w @ w) * w).astype(np.float32)
        v = np.float32(0.9) * v + g + np.float32(5e-3) * w
        after = w - np.float32(0.1) * v
        after += (size * rng.standard_normal(200)).astype(np.float32)
        rows.append(products_of(w, after, g))
        w = after
    law = found(tmp_path, np.array(rows), dtype="float32")
    assert law.failing > 0.9 * law.pairs
    assert not law.fit.explains, law.fit
