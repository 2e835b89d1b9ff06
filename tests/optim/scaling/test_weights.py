"""Weights, pending gradients and state are scaled together, or nothing is."""

from __future__ import annotations

import pytest
import torch
from optim.steered import Loose, whole
from torch import nn

from spherical_motion.binding import bind
from spherical_motion.errors import InvalidArgument, NoTheory
from spherical_motion.optim.scaling.weights import scale_members_, scale_pieces_
from spherical_motion.vocabulary import InvariantGroup, Slice


def filters(parameter: torch.Tensor, count: int) -> list[InvariantGroup]:
    numel = parameter[0].numel()
    return [
        InvariantGroup(str(r), "scale", (Slice("weight", 0, r, r + 1),), (), numel, 0.0)
        for r in range(count)
    ]


def stepped(cls=torch.optim.AdamW, **options):
    model = Loose(6, 4)
    optimizer = cls(model.parameters(), lr=0.1, **options)
    for _ in range(2):
        model.random_gradient(torch.Generator().manual_seed(0))
        optimizer.step()
    return model, optimizer


def held(model, optimizer):
    state = optimizer.state[model.weight]
    return {
        "weight": model.weight.detach().clone(),
        "grad": model.weight.grad.clone(),
        **{n: v.clone() for n, v in state.items() if v.shape == model.weight.shape},
    }


POWERS = {"weight": 1, "grad": -1, "exp_avg": -1, "exp_avg_sq": -2}


def test_everything_takes_its_power_of_the_factor():
    model, optimizer = stepped()
    before = held(model, optimizer)
    members = bind(model, [model.group], optimizer)
    scale_pieces_(optimizer, members.pieces[0], 4.0)
    after = held(model, optimizer)
    assert set(after) == set(POWERS)
    for name, power in POWERS.items():
        assert torch.equal(after[name], before[name] * 4.0**power)


def test_a_factor_for_each_group_is_one_group_after_the_other():
    factors = torch.tensor([0.5, 3.0, 1.0, 0.1], dtype=torch.float64)
    (model, optimizer), (reference, alone) = stepped(), stepped()
    scale_members_(optimizer, bind(model, filters(model.weight, 4), optimizer), factors)
    members = bind(reference, filters(reference.weight, 4), alone)
    for own, factor in zip(members.pieces, factors.tolist(), strict=True):
        scale_pieces_(alone, own, factor)
    expected = held(reference, alone)
    for name, value in held(model, optimizer).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-14, atol=0)


class Unheard(torch.optim.Optimizer):
    """Its class name is not known."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure=None) -> None:
        for p in self.param_groups[0]["params"]:
            self.state[p]["trace"] = torch.ones_like(p)


@pytest.mark.parametrize("way", ["pieces", "members"])
def test_what_is_refused_leaves_everything_as_it_was(way):
    model, optimizer = stepped(Unheard)
    before = held(model, optimizer)
    members = bind(model, [model.group], optimizer)

    def scale(powers=None):
        if way == "pieces":
            scale_pieces_(optimizer, members.pieces[0], 2.0, powers)
        else:
            scale_members_(optimizer, members, torch.tensor([2.0]), powers)

    with pytest.raises(NoTheory, match="Unheard"):
        scale()
    with pytest.raises(NoTheory, match="'trace' for 'weight'"):
        scale({"other": -1})
    for name, value in held(model, optimizer).items():
        assert torch.equal(value, before[name])
    scale({"trace": -1})
    assert torch.equal(held(model, optimizer)["trace"], before["trace"] / 2.0)


def test_an_unknown_optimizer_that_keeps_nothing_yet_is_no_obstacle():
    model = Loose(6, 4)
    optimizer = Unheard(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    scale_pieces_(optimizer, bind(model, [model.group], optimizer).pieces[0], 2.0)
    assert torch.equal(model.weight.detach(), 2.0 * before)


def test_quantized_state_is_refused_and_not_left_behind():
    model, optimizer = stepped(Unheard)
    optimizer.state[model.weight]["trace"] = torch.zeros(6, 4, dtype=torch.uint8)
    before = model.weight.detach().clone()
    pieces = bind(model, [model.group], optimizer).pieces[0]
    with pytest.raises(NoTheory, match=r"'trace'.*torch.uint8, quantized"):
        scale_pieces_(optimizer, pieces, 2.0, {"trace": -1})
    assert torch.equal(model.weight.detach(), before)


def test_a_sparse_gradient_is_refused_before_weights_change():
    model = nn.Embedding(5, 3, sparse=True)
    model(torch.tensor([1, 2])).sum().backward()
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pieces = bind(model, [whole("weight", model.weight)], optimizer).pieces[0]
    with pytest.raises(InvalidArgument, match=r"'weight' must be dense"):
        scale_pieces_(optimizer, pieces, 2.0)
    assert torch.equal(model.weight.detach(), before)
