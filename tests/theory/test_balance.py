"""The balance law: an identity at every step, for every rule, on any schedule and any gradient."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from driven_weights import leaning, products

from spherical_motion import simulate, theory
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

RELATIVES = {
    "amsgrad": {"optimizer": "amsgrad", "beta2": 0.97},
    "amsgrad, decoupled": {"optimizer": "amsgrad", "beta2": 0.97, "decoupled": True},
    "RAdam": {"optimizer": "radam", "beta2": 0.97},
    "RAdam, decoupled": {"optimizer": "radam", "beta2": 0.97, "decoupled": True},
    "Adamax": {"optimizer": "adamax", "beta2": 0.97},
    "RMSprop": {"optimizer": "rmsprop", "beta2": 0.97},
    "Adagrad": {"optimizer": "adagrad"},
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
    hp = HyperParameters(lr=plan[0][0], momentum=plan[0][2], **{**RULES, **RELATIVES}[rule])
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


@pytest.mark.parametrize("schedule", ["constant", "warm-up from 0", "restarts", "rate 0 at times"])
@pytest.mark.parametrize("rule", RELATIVES)
def test_relatives_of_adam_balance_exactly_though_their_rest_is_not_known(rule, schedule) -> None:
    if rule == "Adagrad":
        schedule = "no momentum"
    hp, gram, settings = setup(rule, schedule)
    sides = theory.balance_steps(hp, gram, first_step=0, **settings)
    assert misfit(sides, gram).max() < 1e-11
    if not hp.decoupled:
        with pytest.raises(NoTheory, match="no closed form here for"):
            theory.family_of(hp)


@pytest.mark.parametrize("decoupled", [False, True])
def test_nadam_with_fresh_gradients_keeps_its_approximate_law(decoupled: bool) -> None:
    hp = HyperParameters("nadam", lr=0.002, betas=(0.9, 0.999), decoupled=decoupled)
    count, decay = 4000, 0.3 if decoupled else 0.02
    rng = np.random.default_rng(0)
    gram = products(
        hp, [(0.002, decay, 0.9)] * count, lambda t, w: rng.standard_normal(w.size), dimension=300
    )
    told = {"steps": np.arange(count), "lr": 0.002, "weight_decay": decay, "momentum": 0.9}
    window = {**told, "steps": told["steps"][500:]}
    found = theory.balance(hp, gram[500:], **window)
    # The start of the schedule of μ: β1/2 rather than β1, a fourfold D.
    assert found.ratio == pytest.approx(1.0, abs=0.03)
    assert "in common with the gradient" in found.neglects
    late, _ = theory.law_of(hp).form(hp, theory.GroupFacts())
    assert late == pytest.approx(0.1 * (1 + 1.8 - 2 * 0.729) / 1.9, rel=1e-12)


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


# The readable form


def at_rest(count: int, seed: int = 0) -> tuple[HyperParameters, Gram, dict]:
    hp = HyperParameters("sgd", lr=0.1, weight_decay=0.02, momentum=0.9)
    walk = simulate.random_walk(hp, steps=count, burn_in=300, replicas=16, seed=seed, radial=0.01)
    return hp, walk.gram, {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}


def test_without_the_boundary_the_residual_falls_as_one_over_n_and_with_it_it_is_zero() -> None:
    hp, gram, settings = at_rest(1500)
    lengths, errors, predicted = (50, 150, 500, 1500), [], []
    for length in lengths:
        misses, sds = [], []
        for i in range(gram.shape[1]):
            window = gram[:length, i]
            found = theory.balance(hp, window, steps=np.arange(length), **settings)
            assert found.ratio == pytest.approx(1.0, abs=1e-11)
            # `expected` is of the steps but the first, the readable form of the window.
            ratio = window.dd[1:].sum() / window.ww[1:].sum() / found.expected
            misses.append(ratio - 1.0)
            sds.append(theory.boundary_error(window, 0.9))
        errors.append(float(np.sqrt(np.mean(np.square(misses)))))
        predicted.append(float(np.mean(sds)))
    slope = np.polyfit(np.log(lengths), np.log(errors), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.15)
    np.testing.assert_allclose(errors, predicted, rtol=0.5)  # of 16 windows, and correlated ends


def test_without_a_pull_an_invariant_group_turns_by_its_growth() -> None:
    hp = HyperParameters("sgd", lr=0.1, momentum=0.9)
    gram = simulate.random_walk(hp, steps=2000, burn_in=100, norm0=2.0).gram[:, 0]
    f, s = theory.law_of(hp).form(hp, theory.GroupFacts())
    ratio = gram.dd.sum() / gram.ww.sum()
    grown = (2.0 * gram.wd + gram.dd).sum() / gram.ww.sum()
    assert ratio == pytest.approx(f * s * grown, rel=0.02)  # the two ends of 2,000 steps


@pytest.mark.parametrize("rule", RULES)
def test_readable_form_agrees_with_the_exact_one_over_a_long_window(rule: str) -> None:
    if rule == "Nesterov":
        return  # takes fresh gradients; the angle at rest is tested with its overlap
    hp = HyperParameters(lr=0.02, weight_decay=0.05, momentum=0.8, **RULES[rule])
    hp = dataclasses.replace(hp, beta2=0.999) if "Adam" in rule else hp
    walk = simulate.random_walk(hp, steps=2000, burn_in=300, grad_correlation=0.5)
    gram = walk.gram[:, 0]
    settings = {"lr": hp.lr, "weight_decay": hp.weight_decay, "momentum": hp.momentum}
    found = theory.balance(hp, gram, steps=np.arange(2000), **settings)
    assert gram.dd.sum() / gram.ww.sum() == pytest.approx(found.expected, rel=0.01)


def test_steps_of_a_schedule_are_weighted_by_their_rates() -> None:
    hp, gram, settings = setup("decoupled", "drops")
    found = theory.balance(hp, gram, **settings)
    lr = settings["lr"][1:]
    inward = lr * (0.02 * gram.ww + 5.0 * gram.wg)[1:]
    assert found.pull == pytest.approx(inward.sum() / (lr * gram.ww[1:]).sum(), rel=1e-12)


# What is not known


def test_a_preconditioner_as_fast_as_the_average_is_not_left_out_silently() -> None:
    for beta1, beta2, known in ((0.9, 0.95, False), (0.9, 0.98, True), (0.5, 0.95, True)):
        hp = HyperParameters("adamw", lr=0.01, weight_decay=0.1, betas=(beta1, beta2))
        gram = simulate.random_walk(hp, steps=400).gram[:, 0]
        told = {"steps": np.arange(400), "lr": 0.01, "weight_decay": 0.1, "momentum": beta1}
        seven = Gram.from_array(gram.to_array((*FIELDS, "wp")))
        short, whole = theory.balance(hp, seven, **told), theory.balance(hp, gram, **told)
        assert whole.ratio == pytest.approx(1.0, abs=1e-11)
        assert whole.neglects == ""
        assert (short.unknown == "") == known
        assert short.neglects
        assert short.pull == pytest.approx(whole.pull)
        if not known:
            assert "beta2=0.95" in short.unknown
            assert "products=8" in short.unknown


def test_a_change_that_was_measured_at_some_steps_stands_for_the_others() -> None:
    hp, gram, settings = setup("AdamW")
    some = gram.to_array((*FIELDS, "wp", "ws"))
    some[1::2, 7] = np.nan
    whole = theory.balance(hp, gram, **settings)
    sampled = theory.balance(hp, Gram.from_array(some), **settings)
    without = theory.balance(hp, Gram.from_array(some[:, :7]), **settings)
    assert "known at 50% of the steps" in sampled.neglects
    assert sampled.change_share == pytest.approx(whole.change_share, rel=0.5)
    assert sampled.ratio == pytest.approx(1.0, abs=0.02)
    assert math.isnan(without.change_share)


def test_terms_that_cancel_leave_an_exact_law_and_no_approximate_one() -> None:
    # The loss cancels the decay, and the norm rests: nothing is left but noise.
    for name, cancels in (("sgd", False), ("adamw", True)):
        hp = HyperParameters(name, lr=1e-3, weight_decay=1.0, momentum=0.9, beta2=0.999)
        rng = np.random.default_rng(0)

        def outward(t: int, w: np.ndarray, hp=hp, rng=rng) -> np.ndarray:
            g = 0.02 * rng.standard_normal(w.size)
            return g - w if hp.optimizer == "sgd" else 0.0 * g - w

        plan = [(1e-3, 1.0, 0.9)] * 400
        gram = products(hp, plan, outward, norm0=5.477)  # AdamW: |w_i| near 1, sign(g) cancels λw
        told = {"steps": np.arange(400), "lr": 1e-3, "weight_decay": 1.0, "momentum": 0.9}
        found = theory.balance(hp, Gram.from_array(gram.to_array((*FIELDS, "wp"))), **told)
        assert found.amplification > 20
        if cancels:
            assert "less than what the law neglects" in found.unknown
        else:
            assert found.ratio == pytest.approx(1.0, abs=1e-9)


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
