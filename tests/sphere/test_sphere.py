"""Every figure from the six products, against the definition on the vectors themselves."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from spherical_motion import sphere
from spherical_motion.errors import OutOfDomain
from spherical_motion.vocabulary import Gram


def gram_of(w, d, g) -> Gram:
    return Gram(w @ w, w @ d, d @ d, w @ g, g @ g, d @ g)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(3)
    return rng.standard_normal((3, 50))


def test_norms_and_parts_of_the_step(vectors) -> None:
    w, d, g = vectors
    gram, unit = gram_of(w, d, g), w / np.linalg.norm(w)
    tangential = d - (d @ unit) * unit
    expected = {
        sphere.norm: np.linalg.norm(w),
        sphere.norm_after: np.linalg.norm(w + d),
        sphere.step_norm: np.linalg.norm(d),
        sphere.tangential_step: np.linalg.norm(tangential),
        sphere.radial_step: d @ unit / np.linalg.norm(w),
        sphere.unit_gradient_norm: np.linalg.norm(w) * np.linalg.norm(g),
        sphere.defect: abs(w @ g) / np.linalg.norm(w) / np.linalg.norm(g),
        sphere.radius_ratio: np.linalg.norm(w + d) / np.linalg.norm(w),
    }
    for function, value in expected.items():
        assert function(gram) == pytest.approx(value, rel=1e-12), function.__name__


def test_pull_is_the_decay_and_the_inward_part_of_the_gradient(vectors) -> None:
    w, d, g = vectors
    x = g + 0.3 * w
    gram = Gram(w @ w, w @ d, d @ d, w @ g, g @ g, d @ g, wp=w @ x)
    assert sphere.pull(gram) == pytest.approx(0.3 + w @ g / (w @ w), rel=1e-12)
    wanted = 0.1 + 2.0 * (w @ x) / (w @ w)
    assert sphere.pull(gram, 0.1, scale=2.0) == pytest.approx(wanted, rel=1e-12)
    # One that does not know wp has no pull; a weight of zero neither, and nothing warns.
    assert np.isnan(sphere.pull(gram_of(w, d, g)))
    assert np.isnan(sphere.pull(Gram(0.0, 0, 0, 0, 0, 0, wp=0.0)))


def test_pull_does_not_change_when_the_weights_are_scaled_with_their_decay(vectors) -> None:
    w, _, g = vectors
    pulls = [
        sphere.pull(Gram(k * k * w @ w, 0, 0, 0, 0, 0, wp=k * k * w @ g), 0.2) for k in (1.0, 8.0)
    ]
    assert pulls[0] == pulls[1]


@pytest.mark.parametrize("true_angle", [1e-8, 1e-6, 1e-3, 0.5, 1.5, 3.0, math.pi - 1e-3])
@pytest.mark.parametrize("stretch", [0.5, 1.0, 2.0])
def test_angle_against_fifty_digits(true_angle: float, stretch: float) -> None:
    with mpmath.workdps(50):
        w = [mpmath.mpf(3), mpmath.mpf(4)]
        c, s = mpmath.cos(true_angle), mpmath.sin(true_angle)
        after = [stretch * (c * w[0] - s * w[1]), stretch * (s * w[0] + c * w[1])]
        d = [a - b for a, b in zip(after, w, strict=True)]
        products = [
            w[0] ** 2 + w[1] ** 2,
            w[0] * d[0] + w[1] * d[1],
            d[0] ** 2 + d[1] ** 2,
        ]
    gram = Gram(*(float(p) for p in products), 0, 0, 0)
    # dd - wd²/ww cancels to (angle × stretch)² when the step is mostly radial.
    lost = 1e-16 * (1 + (stretch - 1) ** 2 / (stretch * math.sin(true_angle)) ** 2)
    assert sphere.angle(gram) == pytest.approx(true_angle, rel=max(1e-14, 4 * lost))


def test_no_step_is_angle_zero_and_no_weights_is_nan() -> None:
    assert sphere.angle(Gram(1, 0, 0, 0, 0, 0)) == 0.0
    assert math.isnan(sphere.angle(Gram(0, 0, 1, 0, 0, 0)))
    hole = Gram(*np.full((6, 3), np.nan))
    for name in ("angle", "norm", "defect", "radial_step", "unit_gradient_norm"):
        assert np.isnan(getattr(sphere, name)(hole)).all(), name


def test_a_zero_gradient_has_no_defect() -> None:
    assert sphere.defect(Gram(1, 0, 0, 0, 0, 0)) == 0.0


def test_roburins_radius_identity(vectors) -> None:
    # |w_after|/|w| = (1 - A<c,u>)·√(1 + tan²Δ), with -A<c,u> the radial step.
    w, d, g = vectors
    gram = gram_of(w, 0.1 * d, g)
    right = (1 + sphere.radial_step(gram)) * np.sqrt(1 + sphere.tangent_of_angle(gram) ** 2)
    assert sphere.radius_ratio(gram) == pytest.approx(right, rel=1e-13)
    assert sphere.tangent_of_angle(gram) == pytest.approx(np.tan(sphere.angle(gram)), rel=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_momentum_buffer_is_recovered_from_the_step(nesterov: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    lr, weight_decay, momentum = 0.05, 0.02, 0.8
    w = torch.nn.Parameter(torch.randn(40, dtype=torch.float64))
    optimizer = torch.optim.SGD(
        [w], lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov
    )
    for step in range(4):
        before, g = w.detach().clone(), torch.randn(40, dtype=torch.float64)
        w.grad = g
        state = optimizer.state[w].get("momentum_buffer")
        buffer = torch.zeros_like(g) if state is None else state.clone()
        optimizer.step()
        gram = gram_of(before.numpy(), (w.detach() - before).numpy(), g.numpy())
        if step == 0:
            continue
        settings = (lr, weight_decay, momentum)
        dot = sphere.momentum_dot_gradient(gram, *settings, nesterov)
        assert dot == pytest.approx(float(buffer @ g), rel=1e-9)
        drive = sphere.unit_gradient_drive(gram, *settings, nesterov)
        assert drive == pytest.approx(
            float((before @ before) * (g @ g + 2 * momentum * (buffer @ g))), rel=1e-9
        )
        if not nesterov:
            size = sphere.momentum_norm_sq(gram, *settings)
            assert size == pytest.approx(float(buffer @ buffer), rel=1e-9)
            cosine = float(buffer @ g / buffer.norm() / g.norm())
            assert sphere.momentum_alignment(gram, *settings) == pytest.approx(cosine, rel=1e-9)


def test_without_momentum_the_drive_is_the_squared_unit_gradient(vectors) -> None:
    gram = gram_of(*vectors)
    assert sphere.unit_gradient_drive(gram, 0.1, 0.0, 0.0) == pytest.approx(
        sphere.unit_gradient_norm(gram) ** 2
    )
    assert math.isnan(sphere.momentum_dot_gradient(gram, 0.1, 0.0, 0.0))


def test_effective_rates(vectors) -> None:
    gram = gram_of(*vectors)
    assert sphere.effective_lr(gram, 0.1) == pytest.approx(0.1 / gram.ww)
    assert sphere.effective_lr_l2(gram, 0.1, 0.5) == pytest.approx(0.1 / gram.ww / 0.95)
    assert sphere.taylor_variable(gram, 0.1) == pytest.approx(0.01 * gram.gg)
    assert sphere.taylor_variable_remainder(gram, 0.1) == pytest.approx(0.01 * gram.gg / gram.ww)


def test_figures_do_not_depend_on_the_unit_of_length(vectors) -> None:
    w, d, g = vectors
    for k in (1e-12, 1e12):
        small, large = gram_of(w, d, g), gram_of(k * w, k * d, g / k)
        for name in ("angle", "defect", "radial_step", "radius_ratio", "unit_gradient_norm"):
            function = getattr(sphere, name)
            assert function(large) == pytest.approx(function(small), rel=1e-12), name


def test_shapes_are_kept_and_negative_settings_refused(vectors) -> None:
    gram = Gram.stack([gram_of(*vectors)] * 3)
    assert sphere.angle(gram).shape == (3,)
    assert sphere.unit_gradient_drive(gram, np.full(3, 0.1), 0.0, 0.9).shape == (3,)
    with pytest.raises(OutOfDomain, match="must be >= 0"):
        sphere.unit_gradient_drive(gram, -0.1, 0.0, 0.9)
