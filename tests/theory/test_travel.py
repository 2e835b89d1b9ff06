"""How far n steps go: the closed form against random walks, its limits, and the paper's ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion import theory
from spherical_motion.errors import NoTheory, OutOfDomain
from spherical_motion.vocabulary import HyperParameters

LAGS = [1, 2, 4, 16, 100]


def walked(step, steps: int = 6000, dimension: int = 400, norm0: float = 1.0) -> np.ndarray:
    """Angle arccos E[cos] between weights LAGS steps apart, walking on random tangent gradients."""
    rng = np.random.default_rng(5)
    w = rng.standard_normal(dimension)
    w *= norm0 / np.linalg.norm(w)
    path = np.empty((steps, dimension))
    state: dict = {}
    for t in range(steps):
        g = rng.standard_normal(dimension)
        g -= (g @ w) / (w @ w) * w
        g /= np.linalg.norm(g) * np.linalg.norm(w)
        w = step(w, g, state)
        path[t] = w
    path = path[steps // 3 :]
    path /= np.linalg.norm(path, axis=1)[:, None]
    return np.array([math.acos(float((path[:-n] * path[n:]).sum(1).mean())) for n in LAGS])


def sgd_step(lr: float, decay: float, momentum: float, nesterov: bool, decoupled: bool):
    def step(w, g, state):
        pull = g if decoupled else g + decay * w
        v = state["v"] = momentum * state["v"] + pull if "v" in state else pull
        shrunk = (1.0 - lr * decay) * w if decoupled else w
        return shrunk - lr * (pull + momentum * v if nesterov else v)

    return step


def adamw_step(lr: float, decay: float, beta1: float):
    def step(w, g, state):
        state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
        state["v"] = 0.999 * state.get("v", g * g) + 0.001 * g * g
        return (1.0 - lr * decay) * w - lr * state["m"] / np.sqrt(state["v"])

    return step


@pytest.mark.parametrize(
    ("nesterov", "decoupled", "momentum"),
    [(False, False, 0.0), (False, False, 0.9), (True, False, 0.9), (False, True, 0.9)],
)
def test_closed_form_is_what_a_random_walk_does(nesterov, decoupled, momentum) -> None:
    hp = HyperParameters(
        "sgd", 0.05, 0.02, momentum, nesterov=nesterov, decoupled=decoupled or None
    )
    rest = theory.equilibrium_norm(hp, unit_grad_sq=1.0)
    found = walked(sgd_step(0.05, 0.02, momentum, nesterov, decoupled), norm0=rest)
    # 4,000 steps remember 1/(forgetting rate) of them each: a Monte Carlo error near 1%.
    np.testing.assert_allclose(found, theory.accumulated_angle(hp, LAGS), rtol=0.02)


def test_adamw_travels_as_the_decoupled_heavy_ball() -> None:
    hp = HyperParameters("adamw", 1e-3, 0.5, 0.9)
    rest = theory.equilibrium_norm(hp, numel=400)
    found = walked(adamw_step(1e-3, 0.5, 0.9), norm0=rest)
    np.testing.assert_allclose(found, theory.accumulated_angle(hp, LAGS), rtol=0.03)


@pytest.mark.parametrize(("factor", "ratio"), [(4, 1.9), (16, 3.1)])
def test_small_steps_go_further_than_one_large_one_by_the_ratio_of_the_paper(factor, ratio):
    hp = HyperParameters("sgd", 0.1, 1e-4, 0.9)
    large = HyperParameters("sgd", 0.1 * factor, 1e-4, 0.9)
    found = theory.accumulated_angle(hp, factor) / theory.equilibrium_angle(large)
    assert found == pytest.approx(ratio, abs=0.05)


@given(
    st.floats(1e-9, 0.5),
    st.floats(0.0, 0.99),
    st.sampled_from([{}, {"nesterov": True}, {"decoupled": True}]),
)
def test_it_begins_with_the_equilibrium_angle_and_is_the_recursion(x, momentum, kind) -> None:
    hp = HyperParameters("sgd", 1.0, x, momentum, **kind)
    try:
        angle = theory.equilibrium_angle(hp)
    except OutOfDomain:
        return
    found = np.cos(theory.accumulated_angle(hp, [0, 1, 2, 3, 4]))
    assert found[0] == 1.0
    assert theory.accumulated_angle(hp, 1) == pytest.approx(angle, rel=1e-6)
    shrink = 1.0 - x if kind else 1.0
    first = {"nesterov": (1 + momentum) * shrink, "decoupled": shrink + momentum}
    phi1 = first.get(next(iter(kind), ""), 1.0 + momentum - x)
    for n in (2, 3, 4):
        expected = phi1 * found[n - 1] - momentum * shrink * found[n - 2]
        assert found[n] == pytest.approx(expected, abs=1e-7)


def test_over_many_steps_any_family_forgets_exponentially() -> None:
    for momentum in (0.0, 0.9):
        hp = HyperParameters("sgd", 0.1, 1e-7, momentum)
        many = np.array([1e3, 1e5, 1e7])
        exact = theory.accumulated_angle(hp, many)
        approx = theory.accumulated_angle_approx(hp, many)
        np.testing.assert_allclose(exact, approx, rtol=6e-3)
        # The shortfall of the exact one falls as 1/n, at the stated share α/((1 - α²)n).
        share = 1.0 - exact[0] / approx[0]
        assert share == pytest.approx(momentum / (1 - momentum**2) / 1e3, rel=0.1, abs=1e-5)
    assert theory.accumulated_angle_approx(hp, 1e12) == pytest.approx(math.pi / 2)


def test_adam_with_l2_forgets_at_the_rate_of_its_own_recursion() -> None:
    hp = HyperParameters("adam", 1e-3, 1e-4, 0.9)
    group = {"numel": 1000.0, "unit_grad_rms": 0.1}
    exact = theory.accumulated_angle(hp, 20_000, **group)
    assert theory.accumulated_angle_approx(hp, 20_000, **group) == pytest.approx(exact, rel=1e-3)


def test_lion_and_muon_are_known_over_many_steps_only() -> None:
    lion = HyperParameters("lion", 1e-4, 1.0, betas=(0.9, 0.99))
    with pytest.raises(NoTheory, match="accumulated_angle_approx"):
        theory.accumulated_angle(lion, 4)
    assert theory.forgetting_rate(lion) == pytest.approx(1e-4)


@pytest.mark.parametrize("steps", [-1, math.nan, math.inf, [1, -2]])
def test_steps_outside_the_domain_are_refused(steps) -> None:
    hp = HyperParameters("sgd", 0.1, 1e-4, 0.9)
    for function in (theory.accumulated_angle, theory.accumulated_angle_approx):
        with pytest.raises(OutOfDomain, match="steps"):
            function(hp, steps)
