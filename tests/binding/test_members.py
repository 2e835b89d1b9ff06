"""From groups by name to tensors: what is refused, and sums that are right to the last digits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mixed import Net, group, mixed_groups
from torch import nn

from spherical_motion import InvariantGroup, Slice
from spherical_motion.binding import bind, disjoint_groups
from spherical_motion.errors import InvalidArgument


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net()


def test_sums_are_those_of_a_loop_over_pieces(net: Net) -> None:
    members = bind(net, mixed_groups())
    a = [torch.randn_like(p) for p in members.parameters]
    b = [torch.randn_like(p) for p in members.parameters]
    number = {id(p): i for i, p in enumerate(members.parameters)}
    expected = [
        math.fsum(
            x * y
            for piece in own
            for x, y in zip(
                piece.of(a[number[id(piece.parameter)]]).flatten().tolist(),
                piece.of(b[number[id(piece.parameter)]]).flatten().tolist(),
                strict=True,
            )
        )
        for own in members.pieces
    ]
    torch.testing.assert_close(
        members.sums(a, b), torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-13
    )
    torch.testing.assert_close(members.norms() ** 2, members.sums(*[members.parameters] * 2))


def test_sums_of_millions_of_float32_are_exact_to_ten_digits() -> None:
    layer = nn.Linear(2048, 1200, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1200, 2048) + 3.0)
    members = bind(layer, [group("fc", Slice("weight", 0, 0, 1200))])
    expected = math.sqrt(math.fsum((layer.weight.detach().double() ** 2).flatten().tolist()))
    assert members.norms().item() == pytest.approx(expected, rel=1e-10)
    squares = layer.weight.detach().flatten().square().numpy()
    assert squares.dtype == np.float32
    running = math.sqrt(np.cumsum(squares)[-1])
    assert abs(running / expected - 1.0) > 1e-6, "a running float32 sum would have done, then"


def test_scaling_touches_the_groups_and_nothing_else(net: Net) -> None:
    members = bind(net, mixed_groups())
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    factors = torch.arange(2.0, 2.0 + len(members))
    members.scale_(factors)
    for name, parameter in net.named_parameters():
        expected = start[name].clone()
        for factor, own in zip(factors, members.pieces, strict=True):
            for piece in own:
                if piece.name == name:
                    piece.of(expected).mul_(factor)
        assert torch.equal(parameter.detach(), expected), name


def test_settings_are_read_alive(net: Net) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    members = bind(net, mixed_groups(), optimizer)
    optimizer.param_groups[0]["lr"] = 0.2
    assert members.owner(0)["lr"] == 0.2
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 0.3
    assert members.owner(0)["lr"] == 0.3


CONV = Slice("conv.weight", 0, 0, 6)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "at least one group"),
        ([group("a", CONV, defect=math.nan)], "nobody has proven.*find_groups"),
        ([group("a", CONV, defect=0.3)], "defect of 0.3, above 0.1"),
        ([group("a", Slice("con.weight", 0, 0, 6))], "Closest: conv.weight"),
        ([group("a", Slice("conv.weight", 0, 0, 7))], "does not fit a parameter of shape"),
        ([group("a", Slice("conv.weight", 4, 0, 1))], "does not fit a parameter of shape"),
        ([InvariantGroup("a", "rescale", (CONV,), (), 1, 0.0, powers=(-1,))], "kind 'rescale'"),
    ],
)  # fmt: skip
def test_groups_that_cannot_be_steered_are_refused(
    net: Net, groups: list[InvariantGroup], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        bind(net, groups, where="Here")


@pytest.mark.parametrize("other", [Slice("conv.weight", 0, 2, 3), Slice("conv.weight", 1, 0, 1)])
def test_of_groups_that_share_entries_the_largest_is_taken_and_said(
    net: Net, other: Slice, caplog: pytest.LogCaptureFixture
) -> None:
    small = InvariantGroup("small", "scale", (other, Slice("fc.bias", 0, 0, 1)), (), 3, 0.0)
    large = InvariantGroup("large", "scale", (CONV,), (), 99, 0.0)
    apart = InvariantGroup("apart", "scale", (Slice("fc.weight", 0, 0, 1),), (), 2, 0.0)
    assert disjoint_groups([small, large, apart]) == (large, apart)
    assert bind(net, [small, large, apart], where="Here").names == ("large", "apart")
    said = caplog.text
    assert f"Here leaves group 'small' to the ordinary settings: it shares {other} with" in said
    assert disjoint_groups([apart, large]) == (apart, large)


def test_unproven_groups_can_be_vouched_for(net: Net) -> None:
    assert len(bind(net, [group("a", CONV, defect=math.nan)], max_defect=None)) == 1


def test_who_steps_a_group_is_checked(net: Net) -> None:
    foreign = torch.optim.SGD(Net().parameters(), lr=0.1)
    with pytest.raises(
        InvalidArgument, match=r"'conv.weight' of group .* stepped by none of the optimizers"
    ):
        bind(net, mixed_groups(), foreign)
    torch_groups = [{"params": [p], "lr": 0.1 * (1 + i)} for i, p in enumerate(net.fc.parameters())]
    uneven = torch.optim.SGD(torch_groups)
    fc = [mixed_groups()[3]]
    with pytest.raises(InvalidArgument, match=r"different lr.*'fc.weight' with 0.1.*0.2"):
        bind(net, fc, uneven)
    assert bind(net, fc, uneven, mixed=True).owner(0)["lr"] == 0.1


def test_wrapped_models_are_seen_through(net: Net) -> None:
    members = bind(nn.DataParallel(net), mixed_groups())
    assert members.parameters[0] is net.conv.weight
    assert members.pieces[0][0].name == "module.conv.weight"


@pytest.mark.parametrize("given", ["sgd", 3, ["sgd"]])
def test_what_is_no_optimizer_is_called_that(net: Net, given: object) -> None:
    with pytest.raises(
        InvalidArgument, match=r"Here\(optimizers=...\) expects a torch.optim.Optimizer.*got"
    ):
        bind(net, mixed_groups(), given, "Here")  # pyright: ignore


@pytest.mark.parametrize("given", [None, "fc", ["fc"], 3, []])
def test_what_are_no_groups_is_called_that(net: Net, given: object) -> None:
    with pytest.raises(InvalidArgument, match=r"Here\(groups=...\) expects .*find_groups"):
        bind(net, given, where="Here")  # pyright: ignore
