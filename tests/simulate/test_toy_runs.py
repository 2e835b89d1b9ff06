from __future__ import annotations

import math

import numpy as np
import pytest

from spherical_motion import simulate
from spherical_motion.errors import InvalidArgument, OutOfDomain


def loss(weights: np.ndarray, inputs: np.ndarray, normalized: bool) -> float:
    heading = weights / np.linalg.norm(weights) if normalized else weights
    return float(np.mean(np.log1p(np.exp(-inputs @ heading))))


@pytest.mark.parametrize("normalized", [False, True])
def test_one_step_goes_down_the_gradient_of_the_loss(normalized: bool) -> None:
    given = {"normalized": normalized, "lr": 0.3, "weight_decay": 0.1, "dimension": 4}
    run = simulate.toy_classifier(**given, steps=1, norm0=2.0, angle0=1.0, batch=50, seed=3)
    inputs = np.random.default_rng(3).standard_normal((50, 1, 4))
    inputs = (inputs * np.sign(inputs[..., :1]))[:, 0]
    w = 2.0 * np.array([math.cos(1.0), math.sin(1.0), 0.0, 0.0])
    slope = np.empty(4)
    for i, e in enumerate(1e-5 * np.eye(4)):
        slope[i] = (loss(w + e, inputs, normalized) - loss(w - e, inputs, normalized)) / 2e-5
    w = w - 0.3 * (slope + 0.1 * w)
    assert run.norm_sq[1, 0] == pytest.approx(w @ w, rel=1e-8)
    assert run.angle[1, 0] == pytest.approx(math.acos(w[0] / np.linalg.norm(w)), rel=1e-8)


def test_normalized_steps_obey_pythagoras() -> None:
    # Without decay the step is orthogonal to the weights: the norm never falls.
    run = simulate.toy_classifier(
        normalized=True, lr=0.5, weight_decay=0.0, dimension=5, steps=200, replicas=10
    )
    assert (np.diff(run.norm_sq, axis=0) > 0).all()


def test_the_error_is_the_share_of_inputs_on_the_wrong_side() -> None:
    x = np.random.default_rng(0).standard_normal((200_000, 3))
    for angle in (0.1, 1.0, 2.5):
        w = np.array([math.cos(angle), math.sin(angle), 0.0])
        wrong = np.mean((x @ w) * x[:, 0] < 0)
        assert wrong == pytest.approx(angle / math.pi, abs=4 * 0.5 / math.sqrt(200_000))


def test_rates_may_differ_from_step_to_step() -> None:
    given = {"normalized": False, "weight_decay": 0.1, "dimension": 3, "steps": 40}
    a = simulate.toy_classifier(lr=0.2, **given)
    b = simulate.toy_classifier(lr=np.full(40, 0.2), **given)
    np.testing.assert_array_equal(a.angle, b.angle)


def test_escapes_are_the_first_step_beyond() -> None:
    run = simulate.toy_classifier(
        normalized=True,
        lr=0.3,
        weight_decay=0.3,
        dimension=4,
        steps=100,
        angle0=0.0,
        beyond=0.2,
        replicas=20,
    )
    for replica in range(20):
        outside = np.flatnonzero(run.angle[:, replica] > 0.2)
        assert run.escape[replica] == (outside[0] if outside.size else math.inf)
    assert np.isfinite(run.escape).all()


def test_bad_input() -> None:
    given = {"normalized": True, "lr": 0.1, "weight_decay": 0.1, "dimension": 3, "steps": 5}
    with pytest.raises(InvalidArgument, match="int >= 2, got 1"):
        simulate.toy_classifier(**(given | {"dimension": 1}))
    with pytest.raises(OutOfDomain, match=r"lr=\.\.\.\) must be finite and > 0, got -1"):
        simulate.toy_classifier(**(given | {"lr": -1.0}))
    with pytest.raises(InvalidArgument, match=r"shape \(5,\)"):
        simulate.toy_classifier(**(given | {"lr": [0.1, 0.2]}))
    with pytest.raises(OutOfDomain, match=r"angle0=.* finite, >= 0 and <= 3\.14159, got 4"):
        simulate.toy_classifier(**given, angle0=4.0)
    with pytest.raises(OutOfDomain, match=r"momentum=\.\.\.\) must be finite, >= 0 and < 1, got 1"):
        simulate.narrow_well(0.1, lr=0.1, weight_decay=0.1, momentum=1.0, steps=5)
    with pytest.raises(OutOfDomain, match=r"diameter=.* finite and > 0, got 0\.0 at index 1"):
        simulate.narrow_well([0.1, 0.0], lr=0.1, weight_decay=0.1, steps=5)
