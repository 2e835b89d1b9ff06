"""AdamG: Adam's equations on the sphere, its momentum carried along great circles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spherical_motion import InvariantGroup, Slice
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim import AdaGradG, AdamG


def rows(count: int, numel: int) -> list[InvariantGroup]:
    parts = [Slice("weight", 0, i, i + 1) for i in range(count)]
    return [InvariantGroup(str(s), "scale", (s,), (), numel, 0.0) for s in parts]


def table(count: int = 3, width: int = 7, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(width, count, bias=False).double()


def tangents(model: nn.Linear, rng: torch.Generator) -> Tensor:
    """Gradients an invariant loss could have: tangential, and of size 1/|w|."""
    w = model.weight.detach()
    g = torch.randn(w.shape, generator=rng, dtype=w.dtype)
    g -= (g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True) * w
    return g / w.norm(dim=1, keepdim=True)


def rotation(a: Tensor, b: Tensor) -> Tensor:
    """The matrix that turns the unit vector a into b and leaves what is orthogonal to both."""
    eye, mid = torch.eye(len(a), dtype=a.dtype), (a + b) / (a + b).norm()
    # Two reflections: at the middle between both, then at b.
    reflect = [2.0 * torch.outer(v, v) - eye for v in (a, mid)]
    return reflect[1] @ reflect[0]


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"foreach": True}])
@pytest.mark.parametrize("radius", [None, 1.0])
def test_each_group_makes_adams_step_and_takes_its_momentum_along(options, radius) -> None:
    model, rng = table(), torch.Generator().manual_seed(1)
    betas, lr, eps = (0.8, 0.95), 0.3, 1e-3
    optimizer = AdamG(model, rows(3, 7), lr, betas, eps, radius=radius, **options)
    ends = model.weight.detach().norm(dim=1) if radius is None else torch.full((3,), radius)
    x = [row / row.norm() for row in model.weight.detach().clone()]
    m, v = [torch.zeros(7, dtype=torch.float64) for _ in range(3)], [0.0] * 3
    for k in range(1, 6):
        norms = model.weight.detach().norm(dim=1)
        model.weight.grad = tangents(model, rng)
        unit = model.weight.grad * norms[:, None]
        optimizer.step()
        for i, g in enumerate(unit):
            m[i] = betas[0] * m[i] + (1.0 - betas[0]) * g
            v[i] = betas[1] * v[i] + (1.0 - betas[1]) * float(g @ g)
            size = math.sqrt(v[i] / (1.0 - betas[1] ** k)) + eps
            moved = x[i] - lr * m[i] / (1.0 - betas[0] ** k) / size
            after = moved / moved.norm()
            m[i], x[i] = rotation(x[i], after) @ m[i], after
    expected = torch.stack(x) * ends[:, None]
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-10, atol=1e-12)
    held = optimizer.state[model.weight]["group_momentum"]
    torch.testing.assert_close(held, torch.stack(m), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.stack(list(optimizer.second_moments().values())),
        torch.tensor(v, dtype=torch.float64),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_momentum_stays_a_tangent_and_keeps_its_length_without_gradient(dtype) -> None:
    model, rng = table().to(dtype), torch.Generator().manual_seed(2)
    optimizer = AdamG(model, rows(3, 7), lr=0.2, betas=(0.9, 0.99))
    for _ in range(50):
        model.weight.grad = tangents(model, rng)
        optimizer.step()
    m, w = optimizer.state[model.weight]["group_momentum"], model.weight.detach()
    tolerance = 100 * torch.finfo(dtype).eps
    radial = (m * w).sum(1) / (m.norm(dim=1) * w.norm(dim=1))
    assert radial.abs().max() < tolerance
    length = m.norm(dim=1).clone()
    model.weight.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(m.norm(dim=1), 0.9 * length, rtol=tolerance, atol=0.0)


def test_lr_is_the_angle_of_a_step_while_gradients_agree() -> None:
    model = table(count=1)
    optimizer = AdamG(model, rows(1, 7), lr=1e-3)
    goal = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for _ in range(20):
        w = model.weight.detach()[0].clone()
        optimizer.zero_grad()
        u = model.weight[0] / model.weight[0].norm()
        (-1e-6 * (goal @ u)).backward()
        optimizer.step()
        now = model.weight.detach()[0]
        turn = 2.0 * math.asin((now / now.norm() - w / w.norm()).norm().item() / 2.0)
        # The gradient's own size drops out; what is left is eps and its slow change.
        assert turn == pytest.approx(1e-3, rel=0.03)


def test_without_memory_it_is_a_step_along_the_unit_gradient() -> None:
    """β1 = β2 = 0: each step turns by atan(lr), whatever the gradient."""
    model, rng = table(), torch.Generator().manual_seed(4)
    optimizer = AdamG(model, rows(3, 7), lr=0.1, betas=(0.0, 0.0), eps=1e-30)
    for scale in (1.0, 1e-12, 1e9):
        w = model.weight.detach().clone()
        model.weight.grad = scale * tangents(model, rng)
        optimizer.step()
        cosine = nn.functional.cosine_similarity(w, model.weight.detach())
        torch.testing.assert_close(cosine.arccos().tan(), torch.full_like(cosine, 0.1))


@pytest.mark.parametrize("options", [{}, {"foreach": False}])
def test_single_numbers_and_radial_gradients_do_not_turn(options) -> None:
    model = table(count=4, width=1)
    optimizer = AdamG(model, rows(4, 1), lr=0.5, **options)
    start = model.weight.detach().clone()
    for _ in range(3):
        model.weight.grad = torch.full_like(model.weight, 1e6)
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), start)


def test_a_group_is_not_moved_while_it_has_no_gradient_at_all() -> None:
    model = nn.ModuleDict({"a": table(), "b": table(seed=1)})
    groups = [
        InvariantGroup(key, "scale", (Slice(f"{key}.weight", 0, 0, 3),), (), 21, 0.0)
        for key in model
    ]
    optimizer, rng = AdamG(model, groups, lr=0.1), torch.Generator().manual_seed(5)
    a, b = model["a"], model["b"]
    assert isinstance(a, nn.Linear)
    assert isinstance(b, nn.Linear)
    for present in (True, False, True):
        start, state = b.weight.detach().clone(), optimizer.state[b.weight].get("group_momentum")
        kept = None if state is None else state.clone()
        a.weight.grad = tangents(a, rng)
        b.weight.grad = tangents(b, rng) if present else None
        optimizer.step()
        assert torch.equal(start, b.weight.detach()) is not present
        if not present:
            assert torch.equal(optimizer.state[b.weight]["group_momentum"], kept)
    steps = optimizer.state[a.weight]["group_steps"].tolist()
    assert steps == [3.0, 2.0]


def test_both_kinds_share_a_model_with_steady_moments() -> None:
    """AdaGradG at 1 - β of a steady gradient, AdamG without momentum: the same angle."""
    angle = 0.02
    found = []
    for make in (
        lambda net: AdaGradG(net, rows(3, 7), lr=angle / math.sqrt(1e-3), beta=1.0 - 1e-3),
        lambda net: AdamG(net, rows(3, 7), lr=angle, betas=(0.0, 0.999), eps=1e-30),
    ):
        model, rng = table(), torch.Generator().manual_seed(6)
        optimizer = make(model)
        for _ in range(3):
            g = tangents(model, rng)
            norm = model.weight.detach().norm(dim=1, keepdim=True)
            model.weight.grad = g / g.norm(dim=1, keepdim=True) / norm
            optimizer.step()
        found.append(model.weight.detach())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, r"lr=\.\.\.\) must be finite and >= 0, got -1.0"),
        ({"betas": (0.9, 1.0)}, r"betas=\.\.\.\) must be two numbers in \[0, 1\)"),
        ({"betas": (0.9,)}, "two numbers"),
        ({"eps": 0.0}, "dividing by 0"),
        ({"radius": math.inf}, "finite"),
        ({"lr": math.inf}, r"lr=.*must be finite and >= 0, got inf"),
        ({"betas": 0.9}, r"betas=\.\.\.\) must be two numbers"),
        ({"betas": "ab"}, r"betas=\.\.\.\) must be two numbers"),
        ({"other": 3}, r"other=.*name of a rule"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        AdamG(table(), rows(3, 7), **settings)
