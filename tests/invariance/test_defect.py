"""What an ε leaves at the real weights: linear in ε, and falling with the weights' norm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.invariance import find_groups, inspect_model
from spherical_motion.invariance.proof.assemble import groups_of
from spherical_motion.invariance.proof.defect import Defects
from spherical_motion.invariance.search.symmetry import Symmetry
from spherical_motion.vocabulary import Slice


def batch_norm_net(eps: float, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(6, 12, bias=False), nn.BatchNorm1d(12, eps=eps), nn.Tanh())
    with torch.no_grad():
        net[0].weight.mul_(scale)
    return net


def layer_norm_net(eps: float, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(6, 12, bias=False), nn.LayerNorm(12, eps=eps), nn.Tanh())
    with torch.no_grad():
        net[0].weight.mul_(scale)
    return net


def inputs() -> torch.Tensor:
    return torch.randn(20, 6, generator=torch.Generator().manual_seed(6))


def slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@pytest.mark.parametrize("net", [batch_norm_net, layer_norm_net])
def test_it_is_linear_in_epsilon(net) -> None:
    eps = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4]
    defects = [find_groups(net(e), inputs())[0].defect for e in eps]
    assert slope(eps, defects) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("net", [batch_norm_net, layer_norm_net])
def test_it_falls_with_the_squared_norm_of_the_weights(net) -> None:
    scales = [0.5, 1.0, 2.0, 4.0, 8.0]
    defects = [find_groups(net(1e-6, s), inputs())[0].defect for s in scales]
    assert slope(scales, defects) == pytest.approx(-2.0, abs=0.05)


def test_it_is_what_autograd_gives_for_the_user_s_own_network() -> None:
    """One block, with the probe's three cotangents: a plain double-precision backward agrees."""
    net = layer_norm_net(1e-3)
    found = find_groups(net, inputs())[0]
    net, x = net.double(), inputs().double()
    generator = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(3):
        y = net(x)
        cotangent = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        w = net[0].weight
        (g,) = torch.autograd.grad(y, w, cotangent)
        squares.append(float(((w * g).sum() / (w.norm() * g.norm())).detach()) ** 2)
    assert found.defect == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-9)
    spread = np.std(squares, ddof=1) / np.sqrt(3)
    assert found.defect_error == pytest.approx(spread / (2 * found.defect), rel=1e-9)


def test_a_layer_reads_the_root_mean_square_over_its_cells_and_gradients() -> None:
    cells = [Symmetry.scale([Slice("a.weight", 0, i, i + 1)]) for i in range(2)]
    values = (np.array([3e-4, 3e-4]), np.array([4e-4, 6e-4]))
    defects = Defects(dict(zip(cells, values, strict=True)), {})
    (layer,) = groups_of(cells, defects, lambda name: (2, 7), "layer")
    assert layer.defect == pytest.approx(math.sqrt(17.5) * 1e-4)
    assert (layer.name, layer.numel, layer.slices) == ("a", 14, (Slice("a.weight", 0, 0, 2),))
    one, two = groups_of(cells, defects, lambda name: (2, 7), "filter")
    assert (one.defect, two.defect) == (pytest.approx(3e-4), pytest.approx(math.sqrt(26) * 1e-4))
    assert one.defect_error == 0.0


def test_the_error_covers_what_other_gradients_say() -> None:
    """Over many random gradients, |measured - mean| stays within a few standard errors."""
    rng = np.random.default_rng(0)
    cells = [Symmetry.scale([Slice("a.weight", 0, i, i + 1)]) for i in range(20)]
    truth, pulls = math.sqrt(np.mean(np.arange(1, 21) ** 2)), []
    for _ in range(300):
        values = np.abs(rng.normal(size=(20, 3))) * np.arange(1, 21)[:, None]
        defect, error = Defects(dict(zip(cells, values, strict=True)), {}).together(cells)
        pulls.append((defect - truth) / error)
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.2


def test_one_value_has_no_error() -> None:
    cell = Symmetry.scale([Slice("a.weight", 0, 0, 1)])
    defect, error = Defects({cell: np.array([2e-4])}, {}).together([cell])
    assert defect == pytest.approx(2e-4)
    assert math.isnan(error)


class SpentAfterOneBackward(torch.autograd.Function):
    """Frees what a second backward would need, as reversible networks do."""

    @staticmethod
    def forward(ctx, x):
        ctx.kept = [x.clone()]
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        if not ctx.kept:
            raise RuntimeError("freed")
        return grad * (1 - ctx.kept.pop().tanh() ** 2)


def test_a_model_that_differentiates_once_is_measured_and_says_so() -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(6, 8, bias=False), nn.LayerNorm(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return SpentAfterOneBackward.apply(self.norm(self.fc(x)))

    found = inspect_model(Once(), inputs())
    (group,) = found.groups
    assert 0.0 < group.defect < 1e-3
    assert math.isnan(group.defect_error)
    assert any("could not be differentiated twice" in warning for warning in found.warnings)
    assert found.backwards == 0


def test_it_is_proven_and_small_behind_a_gain_of_zero() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    nn.init.zeros_(net[1].weight)
    found = inspect_model(net, torch.randn(6, 1, 5, 5))
    (group,) = found.groups
    assert group.proven
    assert 0.0 < group.defect < 1e-3
    assert any("all but zero" in warning for warning in found.warnings)
    assert (found.passes, found.repairs) == (6, 1)


class ByHand(nn.Module):
    """Normalizes with an ε that no attribute holds: a number, or a tensor."""

    def __init__(self, outside: bool, eps: float | torch.Tensor) -> None:
        super().__init__()
        self.outside = outside
        self.eps = [eps]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = x.pow(2).mean(-1, keepdim=True)
        (eps,) = self.eps
        return x / (square.sqrt() + eps) if self.outside else x / (square + eps).sqrt()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("outside", [False, True])
def test_an_epsilon_written_into_the_forward_costs_nothing(outside: bool, bias: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 12, bias=bias), ByHand(outside, 1e-4), nn.Tanh())
    found = inspect_model(net, inputs())
    (group,) = found.groups
    assert (group.name, len(group.cells), found.repairs, found.passes) == ("0", 1, 0, 5)
    assert len(group.parameters) == 1 + bias
    assert 1e-7 < group.defect < 1e-3


@pytest.mark.parametrize("outside", [False, True])
def test_an_epsilon_that_cannot_be_removed_costs_one_repair(outside: bool) -> None:
    eps = torch.tensor(1e-4)
    net = nn.Sequential(nn.Linear(6, 12, bias=False), ByHand(outside, eps), nn.Tanh())
    found = inspect_model(net, inputs())
    (group,) = found.groups
    assert (group.name, len(group.cells), found.repairs, found.passes) == ("0", 1, 1, 6)
    assert 1e-7 < group.defect < 1e-3


def test_an_embedding_with_small_positions_is_not_taken_for_an_epsilon() -> None:
    class Embeddings(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(5, 16), nn.Embedding(3, 16)
            self.norm = nn.LayerNorm(16)
            nn.init.normal_(self.places.weight, std=2e-3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.norm(self.words(ids) + self.places(torch.arange(3))).tanh()

    found = inspect_model(Embeddings(), torch.tensor([[0, 1, 2], [3, 4, 1], [2, 2, 0]]))
    (group,) = found.groups  # neither table alone, nor "nearly invariant"
    assert group.parameters == ("words.weight", "places.weight")
    assert (found.passes, found.repairs) == (5, 0)


def test_an_rms_norm_without_epsilon_has_that_of_the_user_s_precision() -> None:
    def defect(eps: float | None) -> float:
        torch.manual_seed(5)
        net = nn.Sequential(nn.Linear(6, 12, bias=False), nn.RMSNorm(12, eps=eps), nn.Tanh())
        return find_groups(net, inputs())[0].defect

    assert defect(None) == defect(torch.finfo(torch.float32).eps) != defect(1e-5)
