"""Which running statistics follow the weights is measured, whatever lies between the two."""

from __future__ import annotations

import pytest
import torch
from optim.steered import digits, whole
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import spherical_motion as smd
from spherical_motion.errors import InvalidArgument, ModelError
from spherical_motion.optim.rescale_on_decay import RescaleOnDecay
from spherical_motion.optim.scaling.statistics import (
    has_running_statistics,
    rescale_statistics_,
    scale_buffers_,
    statistics_factors,
)
from spherical_motion.vocabulary import InvariantGroup, Slice


def test_a_deep_networks_eval_function_survives_arbitrary_factors():
    model, x, _, groups = digits(torch.float64, "layer")
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        model(torch.randn(x.shape, generator=generator, dtype=x.dtype) + 0.5)
    factors = [0.5 + 0.3 * i for i in range(len(groups))]
    found = statistics_factors(model, groups, factors, x)
    parameters = dict(model.named_parameters())
    model.eval()
    expected = model(x).detach()
    with torch.no_grad():
        for group, factor in zip(groups, factors, strict=True):
            for s in group.slices:
                parameters[s.parameter].narrow(s.axis, s.start, s.length).mul_(factor)
    assert float((model(x) - expected).detach().abs().max()) > 1e-3  # the statistics matter
    scale_buffers_(model, found)
    torch.testing.assert_close(model(x).detach(), expected, rtol=1e-10, atol=1e-11)


def test_channels_follow_their_own_filters():
    net = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU())
    x = torch.randn(4, 1, 5, 5)
    groups = smd.find_groups(net, x, "filter")
    found = statistics_factors(net, groups, [1.0, 2.0, 3.0], x)
    torch.testing.assert_close(
        found["1.running_mean"], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    )
    torch.testing.assert_close(
        found["1.running_var"], torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    )


def test_two_groups_in_a_row_multiply():
    """No norm between two convolutions: what the second feeds follows the first one too."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
    )
    x = torch.randn(4, 1, 5, 5)
    groups = smd.find_groups(net, x)
    assert [g.name for g in groups] == ["0", "2"]
    found = statistics_factors(net, groups, [2.0, 3.0], x)
    assert found["3.running_mean"].tolist() == pytest.approx([6.0] * 4)
    assert found["3.running_var"].tolist() == pytest.approx([36.0] * 4)


def test_a_bias_before_batch_norm_stays_in_the_mean():
    """The bias is no member (it has no gradient): only what is above it follows."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).double()
    net[1].eps = 1e-30
    x = torch.randn(8, 1, 5, 5, dtype=torch.float64)
    groups = smd.find_groups(net, x)
    assert [g.parameters for g in groups] == [("0.weight",)]
    net(x + 1.0)
    expected = net.eval()(x).detach()
    with pytest.raises(ModelError, match=r"1.running_mean hold something that does not follow"):
        statistics_factors(net, groups, [3.0], x)
    rescale_statistics_(net, groups, [3.0], x)
    with torch.no_grad():
        net[0].weight.mul_(3.0)
    torch.testing.assert_close(net(x).detach(), expected, rtol=1e-11, atol=1e-12)


def test_rows_that_are_not_rescaled_keep_their_statistics():
    net = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3))
    x = torch.randn(4, 1, 5, 5)
    found = statistics_factors(net, smd.find_groups(net, x, "filter")[1:2], [2.0], x)
    assert found["1.running_var"].tolist() == pytest.approx([1.0, 4.0, 1.0])


class Functional(nn.Module):
    """A batch norm called by hand, with buffers of another name, and one that is no statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))
        self.register_buffer("running_average", torch.zeros(4))
        self.register_buffer("spread", torch.ones(4))
        self.register_buffer("table", torch.arange(4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight.T
        y = F.batch_norm(y, self.running_average, self.spread, training=self.training, momentum=0.2)
        return (y + self.table).relu()


def test_statistics_are_known_by_what_they_do():
    net, x = Functional(), torch.randn(8, 3)
    before = {name: b.clone() for name, b in net.named_buffers()}
    state = torch.get_rng_state()
    found = statistics_factors(net, [whole("weight", net.weight)], [3.0], x)
    assert set(found) == {"running_average", "spread"}
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training


def test_a_silent_channel_goes_with_the_others():
    net = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False, groups=2), nn.BatchNorm2d(2))
    x = torch.randn(4, 2, 3, 3)
    x[:, 1] = 0.0
    found = statistics_factors(net, [whole("0.weight", net[0].weight)], [2.0], x)
    assert found["1.running_var"].tolist() == pytest.approx([4.0, 4.0])


def test_a_model_in_eval_mode_is_probed_as_if_it_trained():
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2)).eval()
    found = statistics_factors(net, [whole("0.weight", net[0].weight)], [2.0], torch.randn(8, 3))
    assert found["1.running_mean"].tolist() == pytest.approx([2.0, 2.0])
    assert not net.training


def test_what_is_not_invariant_is_found_out():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(ModelError, match="changes what Sequential computes in eval mode"):
        statistics_factors(net, [whole("2.weight", net[2].weight)], [2.0], torch.randn(8, 3))


def test_a_failing_model_is_named():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(ModelError, match="module '0'"):
        statistics_factors(net, [whole("0.weight", net[0].weight)], [2.0], torch.randn(8, 5))


def test_layer_norms_have_none():
    assert not has_running_statistics(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))


class ByHand(nn.Module):
    """A batch norm whose buffers are called anything but running; one way of writing each way."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("moving_mean", torch.zeros(4), persistent=persistent)
        self.register_buffer("moving_var", torch.ones(4), persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = self.moving_mean, self.moving_var
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
            self.moving_mean = 0.9 * self.moving_mean + 0.1 * mean.detach()
            self.moving_var.mul_(0.9).add_(var.detach(), alpha=0.1)
        return (x - mean) / var.sqrt()


@pytest.mark.parametrize("persistent", [True, False])
def test_statistics_of_any_name_follow(persistent):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4, bias=False), ByHand(persistent)).double()
    x = torch.randn(16, 3, dtype=torch.float64)
    group = whole("0.weight", net[0].weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"example_inputs=.*'1.moving_mean'"):
        RescaleOnDecay(net, optimizer, [group])
    net(x + 0.3)
    expected = net.eval()(x).detach()
    norm = float(net[0].weight.detach().norm())
    with RescaleOnDecay(net, optimizer, [group], x):
        optimizer.param_groups[0]["lr"] = 1e-3
        optimizer.step()
    assert float(net[0].weight.detach().norm()) < 0.4 * norm
    torch.testing.assert_close(net(x).detach(), expected, rtol=1e-10, atol=1e-12)


def test_a_cumulative_average_is_measured_too():
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4, momentum=None))
    x = torch.randn(8, 3)
    for _ in range(3):
        net(x)
    before = {name: b.clone() for name, b in net.named_buffers()}
    found = statistics_factors(net, [whole("0.weight", net[0].weight)], [3.0], x)
    assert found["1.running_mean"].tolist() == pytest.approx([3.0] * 4)
    assert found["1.running_var"].tolist() == pytest.approx([9.0] * 4)
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())


@pytest.mark.parametrize("factors", [[], [1.0, 2.0], [0.0], [float("nan")], 2.0, ["a"]])
def test_factors_are_one_for_each_group(factors):
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    with pytest.raises(InvalidArgument, match=r"factors=.*expects 1 finite numbers > 0"):
        rescale_statistics_(net, [whole("0.weight", net[0].weight)], factors, torch.randn(8, 3))


class Counter(TorchDispatchMode):
    """Counts operations."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_measuring_takes_no_more_operations_for_filters_than_for_layers():
    net, x = nn.Sequential(nn.Linear(3, 64, bias=False), nn.BatchNorm1d(64)), torch.randn(8, 3)
    rows = [Slice("0.weight", 0, r, r + 1) for r in range(64)]
    filters = [InvariantGroup(str(r), "scale", (r,), (), 3, 1e-9) for r in rows]
    counts = []
    for groups in ([whole("0.weight", net[0].weight)], filters):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
        with Counter() as counter, RescaleOnDecay(net, optimizer, groups, x):
            counts.append(counter.count)
    assert counts[1] <= counts[0] + 10
