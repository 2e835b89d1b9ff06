"""The laws of motion: exact at every step, for every kind of SGD, on any schedule."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from oracle import walk
from simulated import constant, simulate_sgd

from spherical_motion import theory
from spherical_motion.errors import NoTheory
from spherical_motion.vocabulary import Gram, HyperParameters

KINDS = {
    "heavy ball": {},
    "Nesterov": {"nesterov": True},
    "decoupled": {"decoupled": True},
    "dampened": {"dampening": 0.3},
}


def sgd(lr: float, weight_decay: float, momentum: float = 0.0, **kind) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=momentum, **kind)


def residual(
    products: np.ndarray, settings, hp: HyperParameters, steps=None, first_step=None
) -> np.ndarray:
    lr, weight_decay, momentum = np.array(settings).T
    steps = np.arange(len(products)) if steps is None else steps
    return theory.law_of_motion_residual(
        hp,
        Gram.from_array(products),
        steps=steps,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        first_step=first_step,
    )


def test_law_of_motion_is_exact_at_every_step_of_any_schedule() -> None:
    rng = np.random.default_rng(1)
    settings = [(0.1 * rng.uniform(0.5, 2), 0.01 * rng.uniform(0, 2), 0.9) for _ in range(300)]
    products = simulate_sgd(settings, radial=0.3)
    found = residual(products, settings, sgd(0.1, 0.01, 0.9))
    assert math.isnan(found[0])
    assert np.nanmax(found) < 1e-10


def test_law_of_motion_shows_a_step_that_someone_else_made() -> None:
    def shove(step: int, w: np.ndarray) -> None:
        if step == 50:
            w *= 1.01

    settings = constant(0.1, 0.01, 0.9, 100)
    found = residual(simulate_sgd(settings, tamper=shove), settings, sgd(0.1, 0.01, 0.9))
    assert found[50] > 0.1
    assert np.nanmax(found[:50]) < 1e-10
    assert np.nanmax(found[52:]) < 1e-10


def test_law_of_motion_links_neighbours_only() -> None:
    settings = constant(0.1, 0.01, 0.9, 40)
    products = simulate_sgd(settings)
    kept = np.array([0, 1, 10, 11, 20, 21])
    found = residual(products[kept], [settings[i] for i in kept], sgd(0.1, 0.01, 0.9), kept)
    np.testing.assert_array_equal(np.isnan(found), [True, False] * 3)
    assert np.nanmax(found) < 1e-10


def test_momentum_that_is_switched_on_is_no_foreign_step() -> None:
    settings = [(0.1, 0.01, 0.9 * (t >= 20)) for t in range(60)]
    products = simulate_sgd(settings)
    found = residual(products, settings, sgd(0.1, 0.01, 0.9), first_step=0)
    assert math.isnan(found[20])  # it takes up a buffer that step 19 does not show
    assert np.nanmax(found) < 1e-10


def test_law_of_motion_is_not_claimed_for_others() -> None:
    hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1)
    with pytest.raises(NoTheory, match="adamw"):
        residual(np.ones((3, 6)), constant(1e-3, 0.1, 0.9, 3), hp)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_obeys_its_law_from_the_first_step_of_any_schedule(kind: str) -> None:
    rng = np.random.default_rng(1)
    plan = [
        sgd(
            0.1 * rng.uniform(0.5, 2),
            rng.uniform(0, 0.02),
            0.9 if t < 150 else rng.uniform(0.1, 0.95),
            **KINDS[kind],
        )
        for t in range(300)
    ]
    settings = [(hp.lr, hp.weight_decay, hp.momentum) for hp in plan]
    products = walk(plan, 300, norm0=1.0, dimension=60).products
    found = residual(products, settings, plan[0], first_step=0)
    assert found.shape == (300,)
    assert found.max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_law_is_one_kind_only(kind: str) -> None:
    hp = sgd(0.1, 0.05, 0.9, **KINDS[kind])
    products = walk(hp, 200, norm0=1.0, dimension=60).products
    for name, others in KINDS.items():
        told = sgd(0.1, 0.05, 0.9, **others)
        found = np.median(residual(products, constant(0.1, 0.05, 0.9, 200), told)[1:])
        assert (found < 1e-9) == (name == kind), name


def test_radial_gradients_are_in_the_law() -> None:
    for kind in KINDS:
        hp = sgd(0.1, 0.05, 0.9, **KINDS[kind])
        rng = np.random.default_rng(0)
        products = walk(
            hp, 100, norm0=1.0, dimension=30, gradient=lambda t, w, v, r=rng: r.standard_normal(30)
        ).products
        found = residual(products, constant(0.1, 0.05, 0.9, 100), hp, first_step=0)
        assert found.max() < 1e-9


def test_without_momentum_no_neighbour_is_needed() -> None:
    settings = constant(0.1, 0.05, 0.0, 30)
    products = simulate_sgd(settings)
    kept = np.arange(0, 30, 3)
    found = residual(products[kept], [settings[i] for i in kept], sgd(0.1, 0.05), kept)
    assert found.max() < 1e-10


def test_a_rate_of_zero_hides_the_buffer_and_is_not_judged() -> None:
    settings = constant(0.0, 0.05, 0.9, 3) + constant(0.1, 0.05, 0.9, 7)
    found = residual(simulate_sgd(settings), settings, sgd(0.1, 0.05, 0.9))
    assert np.isnan(found[:4]).all()
    assert found[4:].max() < 1e-10


def test_groups_side_by_side_share_their_steps() -> None:
    hp = sgd(0.1, 0.05, 0.9, nesterov=True)
    runs = [walk(hp, 50, norm0=1.0, dimension=30, seed=seed).products for seed in (0, 1)]
    both = theory.law_of_motion_residual(
        hp,
        Gram.from_array(np.stack(runs, axis=1)),
        steps=np.arange(50),
        lr=0.1,
        weight_decay=0.05,
        momentum=0.9,
        first_step=0,
    )
    assert both.shape == (50, 2)
    assert both.max() < 1e-9


def test_who_has_a_law() -> None:
    assert theory.has_law_of_motion(sgd(0.1, 0.1))
    for name in ("adam", "adamw", "lion", "muon", "other"):
        assert not theory.has_law_of_motion(HyperParameters(name, lr=0.1))
    both = dataclasses.replace(sgd(0.1, 0.1, 0.9), nesterov=True, decoupled=True)
    assert not theory.has_law_of_motion(both)
