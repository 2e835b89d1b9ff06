from __future__ import annotations

import numpy as np
import pytest

from spherical_motion import simulate, theory
from spherical_motion.errors import OutOfDomain
from spherical_motion.vocabulary import HyperParameters


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
def test_the_norm_is_the_sum_of_the_steps(momentum: float) -> None:
    hp = HyperParameters("sgd", lr=0.3, momentum=momentum)
    gram = simulate.random_walk(hp, steps=400, replicas=3, shape=(10,)).gram
    norms = theory.undecayed_norm_sq(gram.ww[0], gram.dd, momentum)
    np.testing.assert_allclose(norms[:-1], gram.ww, rtol=1e-11)
    assert (np.diff(norms, axis=0) > 0).all()
    # The closed sum of theorem B.1 with R_0 in it.
    t = 399
    weights = (1 - momentum ** (t - np.arange(t + 1) + 1)) / (1 - momentum)
    earlier = np.concatenate([np.zeros((1, 3)), gram.dd[:-1]])
    closed = gram.ww[0] + weights @ (gram.dd + momentum * earlier)
    np.testing.assert_allclose(closed, norms[-1], rtol=1e-12)


def test_with_decay_it_does_not_hold() -> None:
    hp = HyperParameters("sgd", lr=0.3, weight_decay=0.01, momentum=0.5)
    gram = simulate.random_walk(hp, steps=400, shape=(10,)).gram
    norms = theory.undecayed_norm_sq(gram.ww[0], gram.dd, 0.5)
    assert norms[-2] > 1.2 * gram.ww[-1]


def test_bad_input() -> None:
    with pytest.raises(OutOfDomain, match=r"momentum=\.\.\.\) must be finite, >= 0 and < 1, got 1"):
        theory.undecayed_norm_sq(1.0, [0.1], momentum=1.0)
    with pytest.raises(OutOfDomain, match="step_sq"):
        theory.undecayed_norm_sq(1.0, [-0.1], momentum=0.5)
    with pytest.raises(OutOfDomain, match="norm_sq0"):
        theory.undecayed_norm_sq(0.0, [0.1], momentum=0.5)
