"""From groups by name to tensors: what is refused, and sums that are right to the last digits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion import InvariantGroup, Slice
from spherical_motion.errors import InvalidArgument
from spherical_motion.optim import bind
from spherical_motion.optim.disjoint import disjoint_groups
from spherical_motion.optim.engine import CpuPasses, TorchPasses


class Net(nn.Module):
    """A convolution, a transposed one, a layer with bias and a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, bias=False)
        self.up = nn.ConvTranspose2d(6, 5, 2, bias=False)
        self.fc = nn.Linear(7, 4)
        self.one = nn.Parameter(torch.tensor(2.0))


def group(name: str, *slices: Slice, defect: float = 0.0) -> InvariantGroup:
    return InvariantGroup(name, "scale", slices, (), 1, defect)


def mixed_groups() -> list[InvariantGroup]:
    """Filters on both axes, a weight with its bias, rows that belong to nobody."""
    filters = [group(f"conv[{i}]", Slice("conv.weight", 0, i, i + 1)) for i in (0, 1, 4)]
    ups = [group(f"up[{i}]", Slice("up.weight", 1, i, i + 1)) for i in range(5)]
    fc = group("fc", Slice("fc.weight", 0, 0, 4), Slice("fc.bias", 0, 0, 4))
    return [*filters, fc, *ups, group("one", Slice("one", 0, 0, 1))]


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e15])
def test_compiled_passes_are_the_torch_ones(
    net: Net, dtype: torch.dtype, channels_last: bool, scale: float
) -> None:
    net = net.to(dtype)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore
    members = bind(net, mixed_groups())
    assert CpuPasses.fits(members)
    x = [p.detach().clone() for p in members.parameters]
    g = [scale * torch.randn_like(p) for p in x]
    m = [torch.randn(p.shape, dtype=dtype).as_strided(p.shape, p.stride()) for p in x]
    slow, fast = TorchPasses(members, foreach=False), CpuPasses(members)
    exact = {"rtol": 1e-12, "atol": 1e-12 * max(scale, 1.0) ** 2}
    torch.testing.assert_close(fast.sums(x, g, m), slow.sums(x, g, m), **exact)
    torch.testing.assert_close(fast.sums(x, g, None), slow.sums(x, g, m)[:, :3], **exact)

    rounding = 8.0 * torch.finfo(dtype).eps
    for momentum in (None, m):
        factors = torch.randn(len(members), 2 if momentum is None else 6).double()
        factors[:, 1] /= scale
        ours = [[t.clone() for t in ts] for ts in (x, momentum or [])]
        theirs = [[t.clone() for t in ts] for ts in (x, momentum or [])]
        each = [[t.clone() for t in ts] for ts in (x, momentum or [])]
        fast.update(ours[0], g, ours[1] or None, factors)
        slow.update(theirs[0], g, theirs[1] or None, factors)
        TorchPasses(members, foreach=True).update(each[0], g, each[1] or None, factors)
        for a, b, c in zip(*map(itertools.chain.from_iterable, (ours, theirs, each)), strict=True):
            size = b.abs().max().item()
            torch.testing.assert_close(a, b, rtol=rounding, atol=rounding * size)
            assert torch.equal(b, c)


def test_the_number_of_threads_changes_no_bit() -> None:
    layer = nn.Linear(1500, 700, bias=False)
    members = bind(
        layer, [group(f"{i}", Slice("weight", 0, i, i + 100)) for i in range(0, 700, 100)]
    )
    x, g = [layer.weight.detach()], [torch.randn(700, 1500)]
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(CpuPasses(members).sums(x, g, None))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_what_is_not_finite_comes_through(net: Net) -> None:
    members = bind(net, mixed_groups())
    g = [torch.ones_like(p) for p in members.parameters]
    g[0][0, 0, 0, 0] = torch.nan
    x = [p.detach() for p in members.parameters]
    for passes in (TorchPasses(members, False), CpuPasses(members)):
        sums = passes.sums(x, g, None)
        assert sums[0, 1:].isnan().all()
        assert sums[1:].isfinite().all()


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
        ([group("a", CONV, defect=0.3)], "must be <= 0.1, got 0.3"),
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
    net: Net, other: Slice, capsys: pytest.CaptureFixture[str]
) -> None:
    small = InvariantGroup("small", "scale", (other, Slice("fc.bias", 0, 0, 1)), (), 3, 0.0)
    large = InvariantGroup("large", "scale", (CONV,), (), 99, 0.0)
    apart = InvariantGroup("apart", "scale", (Slice("fc.weight", 0, 0, 1),), (), 2, 0.0)
    assert disjoint_groups([small, large, apart]) == (large, apart)
    assert bind(net, [small, large, apart], where="Here").names == ("large", "apart")
    said = capsys.readouterr().err
    assert f"Here leaves group 'small' to the ordinary settings: it shares {other} with" in said
    assert disjoint_groups([apart, large]) == (apart, large)


def test_unproven_groups_can_be_vouched_for(net: Net) -> None:
    assert len(bind(net, [group("a", CONV, defect=math.nan)], max_defect=None)) == 1


def test_who_steps_a_group_is_checked(net: Net) -> None:
    foreign = torch.optim.SGD(Net().parameters(), lr=0.1)
    with pytest.raises(InvalidArgument, match=r"'conv.weight' of group .* stepped by no optimizer"):
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
    with pytest.raises(InvalidArgument, match=r"Here: expected a torch.optim.Optimizer.*got"):
        bind(net, mixed_groups(), given, "Here")  # pyright: ignore


@pytest.mark.parametrize("given", [None, "fc", ["fc"], 3, []])
def test_what_are_no_groups_is_called_that(net: Net, given: object) -> None:
    with pytest.raises(InvalidArgument, match=r"Here\(groups=...\) expects .*find_groups"):
        bind(net, given, where="Here")  # pyright: ignore
