"""The balance law: an identity at every step, for every rule, on any schedule and any gradient."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from driven_weights import leaning, products

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.vocabulary import Gram, HyperParameters

RULES = {
    "heavy ball": {"optimizer": "sgd"},
    "Nesterov": {"optimizer": "sgd", "nesterov": True},
    "dampened": {"optimizer": "sgd", "dampening": 0.3},
    "decoupled": {"optimizer": "sgd", "decoupled": True},
    "decoupled, dampened": {"optimizer": "sgd", "decoupled": True, "dampening": 0.3},
    "AdamW": {"optimizer": "adamw", "beta2": 0.97},
    "Adam": {"optimizer": "adam", "beta2": 0.97},
}

STEPS = 120


def cosine(t: int) -> float:
    return 0.05 * (1.0 + math.cos(math.pi * t / STEPS))


SCHEDULES = {
    "constant": lambda t: (0.1, 0.02, 0.8),
    "large steps": lambda t: (0.9, 0.4, 0.8),
    "no momentum": lambda t: (0.1, 0.02, 0.0),
    "warm-up from 0": lambda t: (0.1 * min(t / 20, 1.0), 0.02, 0.8),
    "cosine to 0": lambda t: (cosine(t + 1), 0.02, 0.8),
    "restarts": lambda t: (cosine(2 * (t % 60) + 1), 0.02, 0.8),
    "drops": lambda t: (0.1 * 0.1 ** (t // 40), 0.02, 0.8),
    "rate 0 at times": lambda t: (0.1 * (t % 7 > 1), 0.02, 0.8),
    "all settings change": lambda t: (cosine(t), 0.02 * (1 + t % 3), 0.5 + 0.4 * t / STEPS),
    "decay switched off": lambda t: (0.1, 0.02 * (t < 60), 0.8),
    "momentum set in late": lambda t: (0.1, 0.02, 0.8 * (t >= 30)),
}


def setup(rule: str, schedule: str = "constant", **gradient) -> tuple[HyperParameters, Gram, dict]:
    plan = [SCHEDULES[schedule](t) for t in range(STEPS)]
    hp = HyperParameters(lr=plan[0][0], momentum=plan[0][2], **RULES[rule])
    gram = products(hp, plan, leaning(**{"radial": -0.01, **gradient}))
    lr, weight_decay, momentum = np.array(plan).T
    settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
    return hp, gram, {"steps": np.arange(STEPS), **settings}


def misfit(sides: theory.BalanceSteps, gram: Gram) -> np.ndarray:
    """|turned - law| as a share of the largest term; a step of 1e-8 |w| is as fine as rounding."""
    parts = [sides.turned, sides.loss, sides.growth, sides.change, 1e-4 * gram.ww]
    return np.abs(sides.turned - sides.law) / np.nanmax(np.abs(parts), axis=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("rule", RULES)
def test_balance_is_an_identity_from_the_first_step_on(rule: str, schedule: str) -> None:
    hp, gram, settings = setup(rule, schedule)
    sides = theory.balance_steps(hp, gram, first_step=0, **settings)
    assert np.isfinite(sides.turned).all()
    assert misfit(sides, gram).max() < 1e-12
    # And so in any window.
    window = slice(50, 90)
    assert sides.turned[window].sum() == pytest.approx(sides.law[window].sum(), rel=1e-11)


@pytest.mark.parametrize("rule", RULES)
def test_parts_are_what_they_are_called(rule: str) -> None:
    hp, gram, settings = setup(rule)
    sides = theory.balance_steps(hp, gram, **settings)
    assert np.isnan(sides.turned[0])
    # Summed over a window the carried parts cancel but for its two ends.
    lr, decay, momentum = 0.1, 0.02, 0.8
    theta = (1.0 - momentum) if "Adam" in rule else 1.0 - hp.dampening
    inner = lr * theta * gram.wp[1:].sum()
    own = lr * decay * gram.ww[1:].sum() * (1.0 - momentum if hp.decoupled else theta)
    ends = 0.2 * max(abs(inner), own)
    total = 2.0 * (inner + (own if hp.decoupled else 0.0)) / (1.0 + momentum)
    found = sides.loss[1:].sum() + np.nan_to_num(sides.decay[1:]).sum()
    if rule != "Nesterov":
        assert found == pytest.approx(total, abs=ends)
    if rule == "Adam":
        assert np.isnan(sides.decay[1:]).all()
    elif rule != "Nesterov":
        assert sides.decay[1:].sum() == pytest.approx(2.0 * own / (1.0 + momentum), rel=0.1)
    assert (sides.change[1:] != 0).all() if "Adam" in rule else (sides.change[1:] == 0).all()


def test_without_momentum_the_left_side_is_the_squared_step() -> None:
    hp, gram, settings = setup("heavy ball", "no momentum")
    sides = theory.balance_steps(hp, gram, **settings)
    np.testing.assert_array_equal(sides.turned, gram.dd)  # and no step needs the one before


@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_linked_to_its_neighbour_only(rule: str) -> None:
    hp, gram, settings = setup(rule)
    kept = np.array([0, 1, 10, 11, 12, 40, 50, 51])
    settings = {name: values[kept] for name, values in settings.items()}
    sides = theory.balance_steps(hp, gram[kept], **settings)
    nan = [True, False, True, False, False, True, True, False]
    for part in dataclasses.astuple(sides):
        if not np.isnan(part).all():  # the decay of Adam with L2
            np.testing.assert_array_equal(np.isnan(part), nan)
    assert np.nanmax(misfit(sides, gram[kept])) < 1e-12


@pytest.mark.parametrize("rule", ["heavy ball", "Nesterov", "dampened"])
def test_a_buffer_that_rested_is_not_guessed(rule: str) -> None:
    plan = [(0.1, 0.02, 0.8 * (not 40 <= t < 60)) for t in range(STEPS)]
    hp = HyperParameters(lr=0.1, momentum=0.8, **RULES[rule])
    gram = products(hp, plan, leaning())
    lr, weight_decay, momentum = np.array(plan).T
    sides = theory.balance_steps(
        hp, gram, steps=np.arange(STEPS), lr=lr, weight_decay=weight_decay, momentum=momentum
    )
    # Step 60 takes up the buffer that step 39 left.
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(sides.turned)), [0, 60])
    assert np.nanmax(misfit(sides, gram)) < 1e-12


def test_a_tiny_step_is_not_magnified() -> None:
    # Rounding as of float32 weights, in a step of a thousandth of a thousandth of the next rate.
    plan = [(1e-8 if t == 60 else 0.1, 0.02, 0.8) for t in range(STEPS)]
    hp = HyperParameters("sgd", lr=0.1, momentum=0.8)
    gram = products(hp, plan, leaning())
    noisy = gram.to_array()
    noisy[60, 1] += 1e-7 * gram.ww[60]
    lr, weight_decay, momentum = np.array(plan).T
    sides = theory.balance_steps(
        hp,
        Gram.from_array(noisy),
        steps=np.arange(STEPS),
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
    )
    assert misfit(sides, gram)[61] < 1e-4


@pytest.mark.parametrize("rule", ["AdamW", "Adam"])
def test_without_ws_the_change_of_the_preconditioner_is_what_is_missing(rule: str) -> None:
    hp, gram, settings = setup(rule)
    whole = theory.balance_steps(hp, gram, **settings)
    short = theory.balance_steps(hp, Gram.from_array(gram.to_array((*FIELDS, "wp"))), **settings)
    assert np.isnan(short.change).all()
    np.testing.assert_allclose((whole.law - short.law)[1:], whole.change[1:], rtol=1e-9, atol=1e-15)
    assert np.abs(whole.change[1:]).mean() > 0.01 * whole.turned[1:].mean()


FIELDS = ("ww", "wd", "dd", "wg", "gg", "dg")


def test_sgd_needs_the_six_products_only() -> None:
    for rule in ("heavy ball", "Nesterov", "dampened", "decoupled"):
        hp, gram, settings = setup(rule)
        six = theory.balance_steps(hp, Gram.from_array(gram.to_array()), **settings)
        eight = theory.balance_steps(hp, gram, **settings)
        np.testing.assert_allclose(six.loss, eight.loss, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_groups_side_by_side_are_as_alone(rule: str) -> None:
    hp, first, settings = setup(rule)
    _, second, _ = setup(rule, seed=5)
    both = Gram.stack([first, second], axis=1)
    per_step = {n: v if n == "steps" else v[:, None] for n, v in settings.items()}
    together = theory.balance_steps(hp, both, first_step=0, **per_step)
    for i, gram in enumerate((first, second)):
        alone = theory.balance_steps(hp, gram, first_step=0, **settings)
        for name in ("turned", "decay", "loss", "growth", "change"):
            np.testing.assert_array_equal(getattr(together, name)[:, i], getattr(alone, name))


def test_a_window_is_the_ratio_of_the_sums_and_shows_a_wrong_setting() -> None:
    for rule in RULES:
        hp, gram, settings = setup(rule)
        found = theory.balance(hp, gram, **settings)
        assert found.unknown == ""
        assert found.neglects == ""
        assert found.ratio == pytest.approx(1.0, abs=1e-11)
        assert (found.steps, found.left_out) == (STEPS - 1, 1)
        wrong = theory.balance(hp, gram, **{**settings, "momentum": 0.7})
        assert abs(wrong.ratio - 1.0) > 0.02, rule


def test_pull_and_growth_are_what_was_put_in() -> None:
    hp, gram, settings = setup("heavy ball", radial=0.05, correlated=0.0)
    found = theory.balance(hp, gram, **settings)
    x = (gram.wg + 0.02 * gram.ww)[1:].sum() / gram.ww[1:].sum()
    assert found.pull == pytest.approx(x, rel=1e-12)
    assert found.pull == pytest.approx(0.07, abs=0.02)
    assert found.decay == pytest.approx(0.02, rel=1e-12)
    assert found.decay_share == pytest.approx(0.02 / x, rel=1e-12)
    ww = np.append(gram.ww, gram.ww[-1] + 2 * gram.wd[-1] + gram.dd[-1])
    assert found.growth == pytest.approx((ww[-1] - ww[1]) / ww[1:-1].sum(), rel=1e-9)
    law = (2 * 0.1 * x + 0.2 * found.growth) / 1.8
    assert found.expected == pytest.approx(law, rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_outputs_do_not_change_with_the_scale_of_the_weights(rule: str) -> None:
    """w → kw with x → kx (SGD) or as it is (Adam, whose rate then scales): the same angles."""
    hp, gram, settings = setup(rule)
    k = 8.0
    adam = "Adam" in rule
    # SGD: x → kx at the same rate. Adam divides by |x|, so that lr → k·lr, λ → λ/k.
    powers = [2, 2, 2, 1, 0, 1, 1, 1] if adam else [2] * 8
    scaled = Gram.from_array(gram.to_array((*FIELDS, "wp", "ws")) * k ** np.array(powers))
    rescaled = dict(settings)
    if adam:
        rescaled["lr"] = settings["lr"] * k
        rescaled["weight_decay"] = settings["weight_decay"] / k
    one, other = theory.balance(hp, gram, **settings), theory.balance(hp, scaled, **rescaled)
    assert other.ratio == pytest.approx(one.ratio, rel=1e-12)
    assert other.growth == pytest.approx(one.growth, rel=1e-12)
    assert other.pull * (k if adam else 1.0) == pytest.approx(one.pull, rel=1e-12)
    assert other.amplification == pytest.approx(one.amplification, rel=1e-12)
    assert other.expected == pytest.approx(one.expected, rel=1e-12)


def test_a_window_that_says_nothing_says_why() -> None:
    hp, gram, settings = setup("AdamW")
    six = Gram.from_array(gram.to_array())
    assert "not measured" in theory.balance(hp, six, **settings).unknown
    few = {name: values[:10] for name, values in settings.items()}
    assert "fewer than 3/(1 - momentum) = 15" in theory.balance(hp, gram[:10], **few).unknown
    sparse = {**settings, "steps": 2 * settings["steps"]}
    assert "no step follows" in theory.balance(hp, gram, **sparse).unknown
    lion = HyperParameters("lion", lr=0.1, betas=(0.9, 0.99))
    assert "no balance law here for lion" in theory.balance(lion, gram, **settings).unknown
    still = Gram.from_array(np.tile([1.0, 0, 0, 0, 0, 0, 0, 0], (STEPS, 1)))
    assert theory.balance(hp, still, **{**settings, "lr": 0.0}).unknown == "nothing moved"
    for found in (theory.balance(lion, gram, **settings), theory.balance(hp, six, **settings)):
        assert math.isnan(found.ratio)


def test_bad_arguments_are_refused() -> None:
    hp, gram, settings = setup("heavy ball")
    with pytest.raises(InvalidArgument, match=r"steps=.*shape \(120,\)"):
        theory.balance_steps(hp, gram, **{**settings, "steps": np.arange(3)})
    with pytest.raises(InvalidArgument, match="must increase"):
        theory.balance_steps(hp, gram, **{**settings, "steps": np.arange(STEPS)[::-1]})
    with pytest.raises(InvalidArgument, match=r"momentum=.*< 1, got 1"):
        theory.balance_steps(hp, gram, **{**settings, "momentum": 1.0})
    with pytest.raises(InvalidArgument, match=r"gram\[:, i\]"):
        theory.balance(hp, Gram.stack([gram], axis=1), **settings)
    with pytest.raises(NoTheory, match="no balance law here for lion"):
        theory.balance_steps(HyperParameters("lion", lr=0.1, betas=(0.9, 0.99)), gram, **settings)
