"""Networks whose invariant groups were derived by hand, against what is found."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from spherical_motion.invariance import inspect_model


class Case(NamedTuple):
    """A network, its inputs, and each group's name with its number of cells and entries."""

    build: Callable[[], nn.Module]
    inputs: Any
    truth: dict[str, tuple[int, int]]


def images(channels: int = 2, size: int = 6, batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def vectors(width: int = 5, batch: int = 16) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(2))


def tokens() -> torch.Tensor:
    return torch.tensor([[0, 1, 2], [3, 4, 1], [2, 2, 0], [4, 3, 3]])


class Residual(nn.Module):
    """A basic block whose last gain starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + y)


class TwoPaths(nn.Module):
    """One convolution feeds a batch norm and, if asked to, also the output directly."""

    def __init__(self, leak: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.one = nn.BatchNorm2d(4)
        self.two = nn.Identity() if leak else nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.one(y) * torch.sigmoid(self.two(y))


class Tied(nn.Module):
    """One linear layer used twice, each time in front of a norm of its own."""

    def __init__(self, leak: bool) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm1d(5), nn.BatchNorm1d(5)])
        self.second = nn.Linear(5, 5, bias=False)
        self.second.weight = self.first.weight
        self.leak = leak

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norms[0](self.first(x)))
        return self.second(x) if self.leak else self.norms[1](self.second(x))


class UpcastRMSNorm(nn.Module):
    """Computes in float32 whatever comes; ε an attribute, or written into the line."""

    def __init__(self, width: int, literal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = 1e-5
        self.literal = literal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.to(torch.float32)
        square = y.pow(2).mean(-1, keepdim=True)
        eps = self.variance_epsilon if not self.literal else None
        y = y * torch.rsqrt(square + (1e-5 if eps is None else eps))
        return self.weight * y.to(x.dtype)


class LiteralLayerNorm(nn.Module):
    """ε outside the root, as a literal: the defect falls as 1/‖w‖, not as its square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 1e-5)


class LiteralLayerNormNet(nn.Module):
    """An affine map between the embedding and a norm with a literal ε."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 8, bias=False)
        self.norm = LiteralLayerNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))


class QKNorm(nn.Module):
    """Fused q, k, v rows; q and k are normalized over each head, v is not."""

    def __init__(self, heads: int = 2, width: int = 3) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.qkv = nn.Linear(5, 3 * heads * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.width)).unbind(1)
        q, k = (F.rms_norm(part, (self.width,)) for part in (q, k))
        return torch.einsum("bhd,bhe->bde", q, k).flatten(1).sum(1, keepdim=True).sin() + v.sum(1)


class Positions(nn.Module):
    """Embeddings in front of a LayerNorm, with or without a table of positions added."""

    def __init__(self, positions: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 6)
        self.places = nn.Embedding(3, 6) if positions else None
        self.norm = nn.LayerNorm(6)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        if self.places is not None:
            x = x + self.places(torch.arange(ids.shape[1]))
        return self.norm(x)


def zeroed(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def without_bias(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def equal_weights(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    return model


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


def conv_then(*rest: nn.Module, **settings: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, **settings), *rest)


def linear_then(*rest: nn.Module, bias: bool = False) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8, bias=bias), *rest)


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        normed = torch.nn.utils.weight_norm(nn.Linear(5, 8))
    return nn.Sequential(normed, nn.Tanh(), nn.Linear(8, 3))


def new_weight_norm() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 8)), nn.Tanh())


def digits_net(width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width),
        Residual(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


CONV = {"0": (4, 72)}
WHOLE = {"0": (1, 40)}
DIGITS = {
    "0": (4, 72),
    **{f"{block}.conv{i}": (4, 144) for block in (3, 4) for i in (1, 2)},
    **{f"{block}.bn1": (1, 8) for block in (3, 4)},  # gain and shift, through relu into a norm
}

CASES = {
    "conv, batch norm": Case(lambda: conv_then(nn.BatchNorm2d(4), bias=False), images(), CONV),
    "a bias in front of batch norm": Case(lambda: conv_then(nn.BatchNorm2d(4)), images(), CONV),
    "residual digits net": Case(digits_net, images(), DIGITS),
    "frozen": Case(lambda: frozen(digits_net()), images(), DIGITS),
    "all parameters zero": Case(
        lambda: zeroed(
            conv_then(nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3))
        ),
        images(),
        {"0": (4, 72), "3": (3, 108)},
    ),
    "grouped conv": Case(lambda: conv_then(nn.BatchNorm2d(4), groups=2), images(), {"0": (4, 36)}),
    "depthwise conv": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.BatchNorm2d(2)),
        images(),
        {"0": (2, 18)},
    ),
    "transposed conv: filters on axis 1": Case(
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.BatchNorm2d(3)),
        images(),
        {"0": (3, 54)},
    ),
    "grouped transposed conv: a filter of each group together": Case(
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 4, 3, groups=2), nn.BatchNorm2d(4)),
        images(),
        {"0": (2, 36)},
    ),
    "1d conv": Case(
        lambda: nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4)),
        torch.randn(4, 5, 7),
        {"0": (4, 60)},
    ),
    "3d conv": Case(
        lambda: nn.Sequential(nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4)),
        torch.randn(2, 1, 4, 4, 4),
        {"0": (4, 32)},
    ),
    "conv, instance norm": Case(lambda: conv_then(nn.InstanceNorm2d(4)), images(), CONV),
    "conv, group norm": Case(
        lambda: conv_then(nn.GroupNorm(2, 4), bias=False), images(), {"0": (2, 72)}
    ),
    "conv with bias, group norm": Case(
        lambda: conv_then(nn.GroupNorm(2, 4)), images(), {"0": (2, 76)}
    ),
    "linear, batch norm": Case(lambda: linear_then(nn.BatchNorm1d(8)), vectors(), {"0": (8, 40)}),
    "linear, layer norm": Case(lambda: linear_then(nn.LayerNorm(8)), vectors(), WHOLE),
    "linear with bias, layer norm": Case(
        lambda: linear_then(nn.LayerNorm(8), bias=True), vectors(), {"0": (1, 48)}
    ),
    "linear with a bias of zero, layer norm": Case(
        lambda: without_bias(linear_then(nn.LayerNorm(8), bias=True)), vectors(), {"0": (1, 48)}
    ),
    "linear, rms norm": Case(lambda: linear_then(nn.RMSNorm(8)), vectors(), WHOLE),
    "linear, own rms norm, ε an attribute": Case(
        lambda: linear_then(UpcastRMSNorm(8, literal=False)), vectors(), WHOLE
    ),
    "linear, own rms norm, ε a literal": Case(
        lambda: linear_then(UpcastRMSNorm(8, literal=True)), vectors(), WHOLE
    ),
    "linear, own layer norm, ε a literal": Case(LiteralLayerNormNet, vectors(), {"fc": (1, 40)}),
    "weight norm, parametrization": Case(
        new_weight_norm, vectors(), {"0.parametrizations.weight.original1": (8, 40)}
    ),
    "weight norm, hook": Case(old_weight_norm, vectors(), {"0.weight_v": (8, 40)}),
    "spectral norm": Case(
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 8)), nn.Tanh()),
        vectors(),
        {"0.parametrizations.weight.original": (1, 40)},
    ),
    "heads under qk-norm, v free": Case(QKNorm, vectors(), {"qkv": (4, 60)}),
    "relu between: positively homogeneous": Case(
        lambda: conv_then(nn.ReLU(), nn.BatchNorm2d(4), bias=False), images(), CONV
    ),
    "gelu between": Case(lambda: conv_then(nn.GELU(), nn.BatchNorm2d(4), bias=False), images(), {}),
    "sigmoid after": Case(lambda: conv_then(nn.Sigmoid(), bias=False), images(), {}),
    "batch norm in eval mode": Case(
        lambda: conv_then(nn.BatchNorm2d(4), bias=False).eval(), images(), {}
    ),
    "two normalized paths": Case(lambda: TwoPaths(leak=False), images(), {"conv": (4, 72)}),
    "one path unnormalized": Case(lambda: TwoPaths(leak=True), images(), {}),
    "tied, both normalized": Case(
        lambda: Tied(leak=False), vectors(), {"first": (5, 25), "norms.0": (1, 10)}
    ),
    "tied, one use unnormalized": Case(lambda: Tied(leak=True), vectors(), {}),
    "dropout": Case(
        lambda: conv_then(nn.Dropout(0.4), nn.BatchNorm2d(4), nn.Dropout(0.4), bias=False),
        images(),
        CONV,
    ),
    "embedding, layer norm: a word a cell": Case(
        lambda: Positions(False), tokens(), {"words": (5, 30)}
    ),
    "embedding with sparse gradients": Case(
        lambda: nn.Sequential(nn.Embedding(7, 6, sparse=True), nn.LayerNorm(6)),
        tokens(),
        {"0": (5, 30)},
    ),
    "embedding with positions: together": Case(
        lambda: Positions(True), tokens(), {"words + places": (1, 60)}
    ),
    "a gain through relu and linear into a norm": Case(
        lambda: linear_then(
            nn.LayerNorm(8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False), nn.RMSNorm(3)
        ),
        vectors(),
        {"0": (1, 40), "1": (1, 8), "3": (1, 24)},
    ),
    "lstm": Case(lambda: nn.LSTM(5, 3, batch_first=True), torch.randn(3, 4, 5), {}),
    "equal weights into a softmax: orthogonal here only": Case(
        lambda: equal_weights(linear_then(nn.LogSoftmax(dim=1))), vectors(), {}
    ),
    "classifier alone": Case(lambda: nn.Linear(5, 3), vectors(), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_exactly_the_groups_derived_by_hand_are_found(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    found = inspect_model(case.build(), case.inputs)
    assert {g.name: (len(g.cells), g.numel) for g in found.groups} == case.truth


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.truth])
def test_float32_finds_the_same(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    found = inspect_model(case.build(), case.inputs, dtype=torch.float32)
    assert {g.name: (len(g.cells), g.numel) for g in found.groups} == case.truth


def test_filters_of_a_transposed_convolution_lie_on_axis_1() -> None:
    model = CASES["transposed conv: filters on axis 1"].build()
    (group,) = inspect_model(model, images()).groups
    assert [(c[0].axis, c[0].start) for c in group.cells] == [(1, 0), (1, 1), (1, 2)]
    assert [str(s) for s in group.slices] == ["0.weight[0:2]"]


def test_blocks_of_a_group_norm_and_of_heads_are_contiguous_ranges() -> None:
    (group,) = inspect_model(CASES["conv, group norm"].build(), images()).groups
    assert [str(cell[0]) for cell in group.cells] == ["0.weight[0:2]", "0.weight[2:4]"]
    (qkv,) = inspect_model(QKNorm(), vectors()).groups
    assert [(c[0].start, c[0].stop) for c in qkv.cells] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert [str(s) for s in qkv.slices] == ["qkv.weight[0:12]"]


def test_one_group_a_cell_is_named_by_its_index() -> None:
    model = nn.Sequential(
        nn.ConvTranspose2d(2, 3, 3),
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, 4, 3),
        nn.GroupNorm(2, 4, affine=False),
        nn.Flatten(),
        nn.Linear(144, 5, bias=False),
        nn.LayerNorm(5),
    )
    groups = inspect_model(model, images(), "filter").groups
    assert [g.name for g in groups] == ["0[:, 0]", "0[:, 1]", "0[:, 2]", "2[0:2]", "2[2:4]", "5"]
    assert [g.numel for g in groups] == [18, 18, 18, 56, 56, 720]


class ResNet18(nn.Module):
    """The plan of ResNet-18, 20 convolutions, at a width that runs in a moment."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 3 * width, 4 * width]
        self.blocks = nn.ModuleList()
        for before, after in itertools.pairwise(widths):
            self.blocks += [DownBlock(before, after), DownBlock(after, after)]
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class DownBlock(nn.Module):
    """A basic block with zero-initialized last gain and a projection where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        nn.init.zeros_(self.bn2.weight)
        self.skip = nn.Identity()
        if stride != 1:
            self.skip = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.skip(x) + y)


def test_resnet18_shows_all_that_is_invariant_in_6_passes() -> None:
    """Each filter; gain and shift of each bn1; those of a stage's stream, except the last's."""
    torch.manual_seed(0)
    model = ResNet18()
    found = inspect_model(model, torch.randn(8, 3, 16, 16))
    convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 20
    truth = {n: (m.out_channels, m.weight.numel()) for n, m in convolutions.items()}
    truth |= {f"blocks.{i}.bn1": (1, 2 * w) for i, w in enumerate((4, 4, 8, 8, 12, 12, 16, 16))}
    truth |= {
        "norm + blocks.0.bn2 + blocks.1.bn2": (1, 24),
        "blocks.2.bn2 + blocks.2.skip.1 + blocks.3.bn2": (1, 48),
        "blocks.4.bn2 + blocks.4.skip.1 + blocks.5.bn2": (1, 72),
    }
    assert {g.name: (len(g.cells), g.numel) for g in found.groups} == truth
    assert found.passes <= 6
    assert found.bit_identical
    invariant = sum(numel for _, numel in truth.values())
    assert found.coverage == pytest.approx(invariant / sum(p.numel() for p in model.parameters()))
