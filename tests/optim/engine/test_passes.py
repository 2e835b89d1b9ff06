"""The compiled passes against those of torch."""

from __future__ import annotations

import itertools

import pytest
import torch
from mixed import Net, group, mixed_groups
from torch import nn

from spherical_motion import Slice
from spherical_motion.binding import bind
from spherical_motion.optim.engine import CpuPasses, TorchPasses


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net()


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
