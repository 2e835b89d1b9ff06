"""The radial law: decay hidden in the gradient against epsilon and chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from faulty import sgd
from motions import motions_of, whole

from spherical_motion.comparison.laws import hidden_beside, radial_law_of, radial_pulls

STEPS = 160
SETTINGS = [(0.1, 5e-3, 0.9)] * STEPS


def motions(tmp_path, products, **kwargs):
    kwargs.setdefault("dtype", "float32")
    return motions_of(tmp_path / "run", products, SETTINGS, **kwargs)


def with_radial(seed: int, kappa) -> np.ndarray:
    """Steps whose gradient has the part κ(|w|²)·w; the norms are those of another walk."""
    products = sgd(SETTINGS, seed=seed, norm0=1.0 + 0.5 * seed, dtype=np.float32)
    products[:, 3] = kappa(products[:, 0]) * products[:, 0]
    return products


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_decay_in_the_loss_is_found_with_its_size(tmp_path, dtype) -> None:
    products = {
        f"g{i}": sgd(SETTINGS, dtype=dtype, inward=2e-3, norm0=1.0 + i, seed=i) for i in range(3)
    }
    found = motions(tmp_path, products)
    pulls = radial_pulls(found.values())
    assert set(pulls.places) == set(products)
    for motion in found.values():
        law = radial_law_of(motion, whole(motion), pulls=pulls)
        assert law.hidden
        assert law.kappa.value == pytest.approx(2e-3, rel=1e-4)
        assert law.kappa.low <= 2e-3 * (1 + 1e-5)
        assert law.spread < 1e-2
        assert law.positive == 1.0
        assert (law.agreeing, law.others) == (2, 2)
        assert law.share == pytest.approx(2e-3 / 5e-3, rel=1e-3)
        assert math.isnan(law.power) or abs(law.power) < 0.1


@pytest.mark.parametrize("inward", [0.0, -2e-3])
def test_healthy_and_outward_groups_hide_no_decay(tmp_path, inward) -> None:
    products = {f"g{i}": sgd(SETTINGS, dtype=np.float32, inward=inward, seed=i) for i in range(3)}
    found = motions(tmp_path, products)
    pulls = radial_pulls(found.values())
    assert not any(radial_law_of(m, whole(m), pulls=pulls).hidden for m in found.values())


def test_epsilon_has_a_power_of_minus_four_and_is_not_hidden_decay(tmp_path) -> None:
    products = {f"g{i}": with_radial(i, lambda ww: 4e-2 / ww**2) for i in range(3)}
    found = motions(tmp_path, products)
    pulls = radial_pulls(found.values())
    for motion in found.values():
        law = radial_law_of(motion, whole(motion), pulls=pulls)
        assert law.power == pytest.approx(-4.0, abs=0.6)
        assert not law.hidden


def test_a_kappa_that_other_groups_do_not_share_is_not_hidden_decay(tmp_path) -> None:
    sizes = {f"g{i}": 10.0**-i for i in range(1, 5)}
    products = {
        n: with_radial(i, lambda ww, k=k: k + 0 * ww) for i, (n, k) in enumerate(sizes.items())
    }
    found = motions(tmp_path, products)
    pulls = radial_pulls(found.values())
    laws = [radial_law_of(m, whole(m), pulls=pulls) for m in found.values()]
    assert not any(law.hidden for law in laws)
    assert all(law.agreeing == 0 for law in laws)


def test_a_radial_part_of_chance_is_not_hidden_decay(tmp_path) -> None:
    products = {f"g{i}": sgd(SETTINGS, along=0.3, seed=i) for i in range(4)}
    found = motions(tmp_path, products)
    pulls = radial_pulls(found.values())
    for motion in found.values():
        law = radial_law_of(motion, whole(motion), pulls=pulls)
        assert not law.hidden
        assert law.spread > 1.0
        assert 0.2 < law.positive < 0.8


def test_a_part_within_the_certified_defect_is_not_hidden_decay(tmp_path) -> None:
    products = {"a": sgd(SETTINGS, inward=2e-3)}
    motion = motions(tmp_path, products, defect=0.5)["a"]
    law = radial_law_of(motion, whole(motion))
    assert law.expected_defect > law.defect
    assert not law.hidden


def test_without_gradients_nothing_is_known_and_the_audit_is_kept(tmp_path) -> None:
    products = sgd(SETTINGS)
    products[:, 3:] = np.nan
    products[:, 1:3] = 0.0
    motion = motions(tmp_path, {"a": products})["a"]
    law = radial_law_of(motion, whole(motion), peak=0.4, epsilon=0.1, eval_mode=1.0)
    assert (law.samples, law.peak, law.epsilon, law.eval_mode) == (0, 0.4, 0.1, 1.0)
    assert not law.hidden


def test_plain_groups_have_no_radial_pull_of_their_own_and_hide_nothing(tmp_path) -> None:
    found = motions(tmp_path, {"a": sgd(SETTINGS, inward=2e-3)}, kind="plain")
    assert radial_pulls(found.values()).places == {}
    assert not radial_law_of(found["a"], whole(found["a"])).hidden


@pytest.mark.parametrize(("hiding", "told"), [(4, True), (3, True), (2, False), (1, False)])
def test_a_decay_that_most_certified_groups_hide_is_told_beside_them(
    tmp_path, hiding, told
) -> None:
    products = {
        f"g{i}": sgd(SETTINGS, inward=2e-3 * (i < hiding), along=1e-4, norm0=1.0 + i, seed=i)
        for i in range(4)
    }
    found = list(motions(tmp_path, products).values())
    beside = hidden_beside(found, whole(found[0]), radial_pulls(found))
    assert (beside is not None) is told
    if beside is not None:
        assert (beside.hidden, beside.certified) == (hiding, 4)
        assert beside.kappa == pytest.approx(2e-3, rel=1e-2)
    single = hidden_beside(found[:1], whole(found[0]), radial_pulls(found))
    assert single is None
