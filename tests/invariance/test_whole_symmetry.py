"""Joint invariances and rescalings: truths derived by hand, and finite rescalings done by hand."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spherical_motion.invariance import Inspection, inspect_model
from spherical_motion.vocabulary import InvariantGroup

Truth = dict[str, int]
"""Name of a group → number of its cells."""


class Case(NamedTuple):
    """A network, its inputs, its groups and its rescalings."""

    build: Callable[[], nn.Module]
    inputs: Any
    groups: Truth
    rescalings: Truth


def vectors(width: int = 5, batch: int = 16) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(2))


def images() -> torch.Tensor:
    return torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def tokens() -> torch.Tensor:
    return torch.tensor([[0, 1, 2, 5], [3, 4, 1, 6], [2, 2, 0, 1], [4, 3, 3, 0], [6, 5, 1, 3]])


class FusedQKNorm(nn.Module):
    """Rows and biases of q, k, v in one layer; q and k are normalized over each head."""

    def __init__(self, heads: int = 2, width: int = 3) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.qkv = nn.Linear(5, 3 * heads * width)
        self.out = nn.Linear(heads * width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.width)).unbind(1)
        q, k = (F.rms_norm(part, (self.width,)) for part in (q, k))
        weights = torch.einsum("bhd,chd->hbc", q, k).softmax(-1)
        return self.out(torch.einsum("hbc,chd->bhd", weights, v).flatten(1))


class Block(nn.Module):
    """Pre-norm attention and MLP on a residual stream; q, k, v apart, or fused."""

    def __init__(self, width: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width) if fused else None
        self.q, self.k, self.v = (
            None if fused else nn.Linear(width, width, bias=False) for _ in range(3)
        )
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        q, k, v = (
            self.qkv(y).chunk(3, -1)
            if self.qkv is not None
            else (layer(y) for layer in (self.q, self.k, self.v) if layer is not None)
        )
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class PreNorm(nn.Module):
    """A decoder-like stack; the output layer apart from the embedding, or tied to it."""

    def __init__(self, depth: int = 2, width: int = 8, *, fused: bool, tied: bool = False) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(7, width), nn.Embedding(4, width)
        self.blocks = nn.ModuleList(Block(width, fused) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 7, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PostNorm(nn.Module):
    """x ← norm(x + mlp(x)): what the first norm puts out feeds the branch and the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm0 = nn.Linear(5, 8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.norm1, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm0(self.embed(x))
        return self.head(self.norm1(x + self.down(F.relu(self.up(x)))))


class Squared(nn.Module):
    """A squared activation: its input counts twice."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x).square())


class Gated(nn.Module):
    """Gate and value in one weight, as in fused gated MLPs."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 12, bias=False), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * value)


class PreActivation(nn.Module):
    """Residual blocks whose stream is read by batch norms alone, channel by channel."""

    def __init__(self, depth: int = 6, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.bn1, block.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
            block.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            block.conv2 = nn.Conv2d(width, width, 3, padding=1)
            self.blocks.append(block)
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for b in self.blocks:
            x = x + b.conv2(F.relu(b.bn2(b.conv1(F.relu(b.bn1(x))))))
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def each_block(*names: str, depth: int) -> Truth:
    return {name.replace("#", str(i)): 1 for i in range(depth) for name in names}


CASES = {
    "fused q, k, v with biases, heads normalized": Case(
        FusedQKNorm, vectors(), {"qkv": 4}, {"qkv[12:18] / out": 6}
    ),
    "pre-norm, q, k, v apart": Case(
        lambda: PreNorm(fused=False),
        tokens(),
        {"words + places + blocks.*.out + blocks.*.down": 1},
        {
            **{f"blocks.{i}.norm1 / blocks.{i}.q + blocks.{i}.k + blocks.{i}.v": 8 for i in (0, 1)},
            **{f"blocks.{i}.q / blocks.{i}.k": 8 for i in (0, 1)},
            **{f"blocks.{i}.v / blocks.{i}.out": 8 for i in (0, 1)},
            **{f"blocks.{i}.norm2 / blocks.{i}.up": 8 for i in (0, 1)},
            "norm / head": 8,
        },
    ),
    "pre-norm, fused": Case(
        lambda: PreNorm(fused=True),
        tokens(),
        {"words + places + blocks.*.out + blocks.*.down": 1},
        {
            **{f"blocks.{i}.norm1 / blocks.{i}.qkv": 8 for i in (0, 1)},
            **{f"blocks.{i}.qkv[0:8] / blocks.{i}.qkv[8:16]": 8 for i in (0, 1)},
            **{f"blocks.{i}.qkv[16:24] / blocks.{i}.out": 8 for i in (0, 1)},
            **{f"blocks.{i}.norm2 / blocks.{i}.up": 8 for i in (0, 1)},
            "norm / head": 8,
        },
    ),
    "post-norm: gains, shifts and biases of a branch together": Case(
        PostNorm,
        vectors(),
        {"embed": 1, "norm0 + up.bias + down.bias": 1},
        {"up / down": 12, "norm1 / head": 8},
    ),
    "relu pair": Case(
        lambda: chain(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)), vectors(), {}, {"0 / 2": 6}
    ),
    "relu pair without bias": Case(
        lambda: chain(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)),
        vectors(), {}, {"0 / 2": 6},
    ),
    "relu pair across a flatten": Case(
        lambda: chain(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)),
        images(), {}, {"0 / 3": 4},
    ),
    "gelu pair": Case(
        lambda: chain(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 3)), vectors(), {}, {}
    ),
    "squared activation": Case(Squared, vectors(), {}, {"up / down": 7}),
    "gated": Case(Gated, vectors(), {}, {"up[6:12] / down": 6}),
    "gain against the next layer": Case(
        lambda: chain(nn.LayerNorm(5), nn.Linear(5, 3)), vectors(), {}, {"0 / 1": 5}
    ),
    "linear chain into a norm": Case(
        lambda: chain(
            nn.Linear(5, 6, bias=False), nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.Tanh()
        ),
        vectors(), {"0": 1, "1": 1}, {"0 / 1": 6},
    ),
    "pre-activation: a channel of the stream a cell": Case(
        PreActivation,
        images(),
        {
            "stem + blocks.*.conv2": 4,
            **{f"blocks.{i}.conv1": 4 for i in range(6)},
            **each_block("blocks.#.bn1", depth=6),
        },
        {
            **{f"blocks.{i}.bn1 / blocks.{i}.conv1": 4 for i in range(6)},
            **{f"blocks.{i}.bn2 / blocks.{i}.conv2": 4 for i in range(6)},
            "norm / head": 4,
        },
    ),
}  # fmt: skip


def noisy(model: nn.Module) -> nn.Module:
    """In float64, away from zero biases and gains, with an ε that is out of the way."""
    model = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise)
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-30
    return model


def outputs(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    with torch.no_grad():
        return model(inputs.double() if inputs.is_floating_point() else inputs)


def change(model: nn.Module, inputs: torch.Tensor, group: InvariantGroup, factor: float) -> float:
    """Relative change of the outputs when the slices of a group are multiplied by hand."""
    model = noisy(model)
    before = outputs(model, inputs)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for part, power in zip(group.slices, group.powers or (1,) * len(group.slices), strict=True):
            entries = parameters[part.parameter].narrow(part.axis, part.start, part.length)
            entries.mul_(factor**power)
    return float((outputs(model, inputs) - before).norm() / before.norm())


def assert_true(model: nn.Module, inputs: torch.Tensor, found: Inspection) -> None:
    for group in (*found.groups, *found.rescalings):
        assert change(model, inputs, group, 3.0) < 1e-10, group.name


@pytest.mark.parametrize("name", CASES)
def test_what_was_derived_by_hand_is_found_and_stands_a_rescaling_by_hand(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.build()
    found = inspect_model(model, case.inputs)
    assert {g.name: len(g.cells) for g in found.groups} == case.groups
    assert {g.name: len(g.cells) for g in found.rescalings} == case.rescalings
    assert_true(model, case.inputs, found)
    assert found.repairs == 0
    assert found.bit_identical or not (found.groups or found.rescalings)


@pytest.mark.parametrize("name", CASES)
def test_float32_finds_the_same_with_thresholds_of_its_own(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    found = inspect_model(case.build(), case.inputs, dtype=torch.float32)
    assert {g.name: len(g.cells) for g in found.groups} == case.groups
    assert {g.name: len(g.cells) for g in found.rescalings} == case.rescalings


def test_one_factor_by_hand_tells_a_true_group_from_a_part_of_it() -> None:
    """The check by hand has teeth: without one member, or with a wrong power, outputs move."""
    torch.manual_seed(0)
    model = PreNorm(fused=True)
    (stream,) = inspect_model(model, tokens()).groups
    for k in range(len(stream.slices)):
        part = InvariantGroup("part", "scale", stream.slices[:k] + stream.slices[k + 1 :], (), 1)
        assert change(model, tokens(), part, 3.0) > 1e-3
    (pair,) = inspect_model(Squared(), vectors()).rescalings
    assert sorted(pair.powers) == [-1, 2] or sorted(pair.powers) == [-2, 1, 1]
    wrong = InvariantGroup("wrong", "rescale", pair.slices, (), 1, powers=(1, 1, -1))
    assert change(Squared(), vectors(), wrong, 3.0) > 1e-3


def test_a_tied_output_layer_takes_the_stream_out_and_is_named_with_its_other_use() -> None:
    found = inspect_model(PreNorm(fused=True, tied=True), tokens())
    assert found.groups == ()
    reasons = {u.parameter: u.reason for u in found.uncovered}
    assert reasons["words.weight"].startswith("shared with head.weight")
    assert_true(PreNorm(fused=True, tied=True), tokens(), found)


def test_a_rectangle_of_powers_is_oriented_and_named_by_its_rows() -> None:
    (pair,) = inspect_model(Squared(), vectors()).rescalings
    assert (pair.name, pair.powers) == ("up / down", (1, 1, -2))
    assert [s.axis for s in pair.slices] == [0, 0, 1]
    assert pair.numel == 7 * 5 + 7 + 7 * 3
    filters = inspect_model(Squared(), vectors(), "filter").rescalings
    assert [g.name for g in filters][:2] == ["up[0] / down[:, 0]", "up[1] / down[:, 1]"]


def test_equivalent_streams_are_one_group_and_a_note() -> None:
    found = inspect_model(PreNorm(fused=False), tokens())
    (note,) = [n for n in found.notes if "equivalent choices" in n]
    assert "blocks.0.v" in note


class Twice(nn.Module):
    """A bias that joins its own layer in front of a norm, and the stream that layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.mix, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(1, 4)
        self.out, self.last = nn.Conv2d(4, 4, 1), nn.GroupNorm(1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.last(x + self.out(F.gelu(self.norm(self.mix(x))))).tanh()


def test_groups_that_share_a_bias_count_its_entries_once() -> None:
    torch.manual_seed(0)
    model = Twice()
    found = inspect_model(model, images())
    assert {g.name for g in found.groups} == {"mix", "stem + mix.bias + out"}
    assert_true(model, images(), found)
    entries = sum(
        p.numel() for n, p in model.named_parameters() if "norm" not in n and "last" not in n
    )
    assert found.coverage == pytest.approx(entries / sum(p.numel() for p in model.parameters()))


def random_net(seed: int) -> nn.Module:
    """A stack of layers, norms, activations and residual branches, drawn at random."""
    rng = random.Random(seed)
    width = rng.choice([6, 8])

    def norm() -> nn.Module:
        return rng.choice(
            [
                nn.LayerNorm(width),
                nn.RMSNorm(width),
                nn.BatchNorm1d(width),
                nn.GroupNorm(2, width),
                nn.Identity(),
            ]
        )

    def activation() -> nn.Module:
        return rng.choice(
            [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Identity(), nn.ReLU6(), nn.LeakyReLU()]
        )

    def branch() -> nn.Module:
        inner = rng.choice([width, 2 * width])
        return chain(
            norm(),
            nn.Linear(width, inner, bias=rng.random() < 0.5),
            activation(),
            nn.Linear(inner, width, bias=rng.random() < 0.5),
            norm(),
        )

    layers: list[nn.Module] = [nn.Linear(5, width, bias=rng.random() < 0.5), norm(), activation()]
    layers += [Residual(branch()) if rng.random() < 0.6 else branch() for _ in range(2)]
    return chain(*layers, norm(), nn.Linear(width, 3))


class Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


@pytest.mark.parametrize("seed", range(24))
def test_nothing_found_on_a_random_net_is_false(seed: int) -> None:
    torch.manual_seed(seed)
    model, inputs = random_net(seed), vectors(batch=24)
    found = inspect_model(model, inputs)
    assert_true(model, inputs, found)
    fine = inspect_model(model, inputs, "filter")
    for group in (*fine.groups, *fine.rescalings)[::7]:
        assert change(model, inputs, group, 3.0) < 1e-10, group.name
