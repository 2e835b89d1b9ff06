"""Steps at which a group has no gradient: the optimizer passes it by, and so does the law."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from driven_weights import leaning, products

from spherical_motion import theory
from spherical_motion.vocabulary import Gram, HyperParameters

EVERY_RULE = {
    "SGD": {"optimizer": "sgd"},
    "Nesterov": {"optimizer": "sgd", "nesterov": True},
    "dampened": {"optimizer": "sgd", "dampening": 0.3},
    "decoupled": {"optimizer": "sgd", "decoupled": True},
    "AdamW": {"optimizer": "adamw", "beta2": 0.97},
    "Adam": {"optimizer": "adam", "beta2": 0.97},
    "amsgrad": {"optimizer": "amsgrad", "beta2": 0.97},
    "RAdam": {"optimizer": "radam", "beta2": 0.97},
    "Adamax": {"optimizer": "adamax", "beta2": 0.97},
    "RMSprop": {"optimizer": "rmsprop", "beta2": 0.97},
}
STEPS = 90
PARTS = ("turned", "decay", "loss", "growth", "change")


def told(plan: list[tuple[float, float, float]]) -> dict:
    lr, weight_decay, momentum = np.array(plan).T
    return {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}


def run(rule: str, idle: np.ndarray) -> tuple[HyperParameters, Gram, dict]:
    plan = [(0.05 * (1 + t % 4), 0.02, 0.8) for t in range(STEPS)]
    hp = HyperParameters(lr=0.05, momentum=0.8, **EVERY_RULE[rule])
    drawn = leaning(radial=-0.01)

    def gradient(t: int, w: np.ndarray) -> np.ndarray | None:
        return None if idle[t] else drawn(t, w)

    return hp, products(hp, plan, gradient), told(plan)


def some(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(STEPS) < 0.3


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_law_is_exact_across_steps_without_a_gradient(rule: str) -> None:
    idle = some()
    hp, gram, settings = run(rule, idle)
    sides = theory.balance_steps(hp, gram, steps=np.arange(STEPS), first_step=0, **settings)
    assert np.array_equal(np.isnan(sides.turned), idle)
    moved = ~idle
    np.testing.assert_allclose(sides.law[moved], sides.turned[moved], rtol=1e-10, atol=1e-12)
    found = theory.balance(hp, gram, steps=np.arange(STEPS), **settings)
    assert found.ratio == pytest.approx(1.0, abs=1e-11)


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_idle_steps_are_as_good_as_not_there(rule: str) -> None:
    idle = some()
    hp, gram, settings = run(rule, idle)
    sides = theory.balance_steps(hp, gram, steps=np.arange(STEPS), first_step=0, **settings)
    rest = {name: values[~idle] for name, values in settings.items()}
    alone = theory.balance_steps(
        hp, gram[~idle], steps=np.arange((~idle).sum()), first_step=0, **rest
    )
    for part in PARTS:
        np.testing.assert_array_equal(getattr(sides, part)[~idle], getattr(alone, part))


@pytest.mark.parametrize("rule", ["SGD", "AdamW", "Nesterov"])
def test_each_group_has_its_own_idle_steps(rule: str) -> None:
    runs = [run(rule, some(seed)) for seed in range(3)] + [run(rule, np.zeros(STEPS, bool))]
    hp, _, settings = runs[0]
    grams = [gram for _, gram, _ in runs]
    per_step = {name: values[:, None] for name, values in settings.items()}
    steps = np.arange(STEPS)
    together = theory.balance_steps(
        hp, Gram.stack(grams, axis=1), steps=steps, first_step=0, **per_step
    )
    for i, gram in enumerate(grams):
        alone = theory.balance_steps(hp, gram, steps=steps, first_step=0, **settings)
        for part in PARTS:
            np.testing.assert_array_equal(getattr(together, part)[:, i], getattr(alone, part))


@pytest.mark.parametrize("rule", ["SGD", "AdamW"])
def test_a_gap_in_the_record_stays_a_gap(rule: str) -> None:
    idle = some()
    hp, gram, settings = run(rule, idle)
    kept = np.arange(STEPS) != 40 + int(np.argmin(idle[40:]))  # a step that moved is not recorded
    settings = {name: values[kept] for name, values in settings.items()}
    steps = np.arange(STEPS)[kept]
    sides = theory.balance_steps(hp, gram[kept], steps=steps, first_step=0, **settings)
    unknown = np.flatnonzero(np.isnan(sides.turned) & ~idle[kept])
    assert unknown.size == 1
    assert (steps[unknown] > 40).all()
    found = np.isfinite(sides.turned)
    np.testing.assert_allclose(sides.law[found], sides.turned[found], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdamW"])
def test_a_step_at_which_only_a_part_of_a_group_had_a_gradient_hides_its_average(rule) -> None:
    idle = some()
    hp, first, settings = run(rule, idle)
    _, second, _ = run(rule, np.zeros(STEPS, bool))
    both, steps = first + second, np.arange(STEPS)
    sides = theory.balance_steps(hp, both, steps=steps, first_step=0, **settings)
    unknown = idle | np.append(False, idle[:-1])
    np.testing.assert_array_equal(np.isnan(sides.turned + sides.loss), unknown)
    known = ~unknown
    np.testing.assert_allclose(sides.law[known], sides.turned[known], rtol=1e-10, atol=1e-12)


def test_nadam_counts_only_the_steps_that_it_takes() -> None:
    hp = HyperParameters("nadam", lr=0.002, betas=(0.9, 0.999))
    count, rng = 4000, np.random.default_rng(0)
    plan = [(0.002, 0.02, 0.9)] * count

    def gradient(t: int, w: np.ndarray) -> np.ndarray | None:
        return None if t % 2 else rng.standard_normal(w.size)

    gram = products(hp, plan, gradient, dimension=300)
    sides = theory.balance_steps(hp, gram, steps=np.arange(count), **told(plan))
    moved = slice(0, count, 2)
    alone = theory.balance_steps(hp, gram[moved], steps=np.arange(count // 2), **told(plan[moved]))
    for field in dataclasses.fields(sides):
        np.testing.assert_array_equal(getattr(sides, field.name)[moved], getattr(alone, field.name))
    assert np.isnan(sides.turned[1::2]).all()


@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "decoupled"])
def test_law_of_motion_does_not_look_for_the_buffer_in_a_step_without_a_gradient(rule) -> None:
    idle = some()
    hp, gram, settings = run(rule, idle)
    steps = np.arange(STEPS)
    found = theory.law_of_motion_residual(hp, gram, steps=steps, first_step=0, **settings)
    np.testing.assert_array_equal(np.isnan(found), idle | np.append(False, idle[:-1]))
    assert np.nanmax(found) < 1e-10
