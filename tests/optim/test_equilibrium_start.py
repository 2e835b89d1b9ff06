"""Weights put at their equilibrium norm: the function stays, the angle is right from the start."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spherical_motion import theory
from spherical_motion.errors import InvalidArgument, ModelError, NoTheory, OutOfDomain
from spherical_motion.invariance import find_groups
from spherical_motion.optim import scale_to_equilibrium
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8),
        nn.LayerNorm(8),
        nn.Tanh(),
        nn.Linear(8, 12, bias=False),
        nn.BatchNorm1d(12),
        nn.Dropout(0.2),
        nn.Linear(12, 3),
    )


def data(count: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(32, 6, generator=generator), torch.randint(0, 3, (32,), generator=generator))
        for _ in range(count)
    ]


def loss_of(model: nn.Module):
    return lambda batch: F.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize("granularity", ["layer", "filter"])
def test_sgd_by_the_gradient_measured_by_hand(granularity) -> None:
    model = network().double()
    model[5].p = 0.0
    batches = [(x.double(), y) for x, y in data()]
    groups = find_groups(model, batches[0][0], granularity)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    hp = HyperParameters("sgd", lr=0.1, momentum=0.9, weight_decay=1e-3)
    expected = []
    for group in groups:
        parts = [
            model.get_parameter(s.parameter).detach().narrow(s.axis, s.start, s.length)
            for s in group.slices
        ]
        norm_sq = sum(float(p.square().sum()) for p in parts)
        squares = []
        for batch in batches:
            grads = torch.autograd.grad(loss_of(model)(batch), [*model.parameters()])
            by_name = dict(zip(dict(model.named_parameters()), grads, strict=True))
            squares.append(
                sum(
                    float(by_name[s.parameter].narrow(s.axis, s.start, s.length).square().sum())
                    for s in group.slices
                )
            )
        drive = norm_sq * np.mean(squares)
        expected.append(theory.equilibrium_norm(hp, unit_grad_sq=drive))
    start = scale_to_equilibrium(model, optimizer, groups, batches, loss_of(model))
    np.testing.assert_allclose(start.after, expected, rtol=1e-10)
    norms = [
        math.sqrt(
            sum(
                float(
                    model.get_parameter(s.parameter)
                    .detach()
                    .narrow(s.axis, s.start, s.length)
                    .square()
                    .sum()
                )
                for s in group.slices
            )
        )
        for group in groups
    ]
    np.testing.assert_allclose(norms, expected, rtol=1e-10)
    assert (start.defect < 1e-3).all()


@pytest.mark.parametrize(
    ("make", "rms"),
    [
        (lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1), math.sqrt(1e-3 / 0.2)),
        (
            lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-2, nesterov=True, momentum=0.9),
            None,
        ),
        (lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-3), None),
    ],
)
def test_every_family_with_a_law_finds_its_norm(make, rms) -> None:
    model = network()
    groups = find_groups(model, data()[0][0])
    start = scale_to_equilibrium(model, make(model.parameters()), groups, data(), loss_of(model))
    assert np.isfinite(start.after).all()
    if rms is not None:
        entries = np.sqrt([g.numel for g in groups])
        np.testing.assert_allclose(start.after / entries, rms, rtol=1e-3)
    # Doing it again finds the same norm: it does not depend on where the weights are.
    again = scale_to_equilibrium(model, make(model.parameters()), groups, data(), loss_of(model))
    np.testing.assert_allclose(again.factors, 1.0, rtol=2e-3)


def test_nothing_else_is_touched_and_the_function_stays() -> None:
    model = network()
    for x, _ in data(3):
        model(x)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    groups = find_groups(model, data()[0][0])
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    others = {n: p.detach().clone() for n, p in model.named_parameters() if n[0] not in "03"}
    x = data()[0][0]
    model.eval()
    before = model(x)
    model.train()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    loader = torch.utils.data.DataLoader(data(), batch_size=None, shuffle=True)
    scale_to_equilibrium(model, optimizer, groups, loader, loss_of(model))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert model.training
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name])
    for name, parameter in model.named_parameters():
        assert name not in others or torch.equal(parameter, others[name])
        assert (parameter.grad is not None) == (name == "6.weight")
    assert torch.equal(model[6].weight.grad, torch.ones_like(model[6].weight))

    # With example inputs the running statistics follow, and evaluation is the same.
    model = network()
    for batch, _ in data(3):
        model(batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    start = scale_to_equilibrium(model, optimizer, groups, data(), loss_of(model), example_inputs=x)
    assert np.abs(np.log(start.factors)).min() > 0.1
    after = model.eval()(x)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)  # the norm layers' epsilon


class Noise:
    """A matrix with tangential gradients of a known size, homogeneous of degree -1."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(40, 20, bias=False))
        piece = Slice("0.weight", 0, 0, 20)
        self.groups = [InvariantGroup("0", "scale", (piece,), ((piece,),), 800, defect=0.0)]

    def loss(self, noise: torch.Tensor) -> torch.Tensor:
        w = self.model[0].weight
        return (noise * w / w.norm()).sum()

    def angles(self, optimizer: torch.optim.Optimizer, steps: int) -> np.ndarray:
        generator, found = torch.Generator().manual_seed(5), []
        w = self.model[0].weight
        for _ in range(steps):
            before = w.detach().clone()
            optimizer.zero_grad()
            self.loss(torch.randn(20, 40, generator=generator)).backward()
            optimizer.step()
            d = w.detach() - before
            across = d - (d * before).sum() / before.square().sum() * before
            along = before.norm() + (d * before).sum() / before.norm()
            found.append(math.atan2(float(across.norm()), float(along)))
        return np.array(found)


def steps_until_near(angles: np.ndarray, target: float, width: int = 25) -> int:
    """First step from which the running mean of the angle stays within 5% of the target."""
    means = np.convolve(angles, np.ones(width) / width, "valid")
    away = np.flatnonzero(np.abs(means / target - 1.0) > 0.05)
    return 0 if not away.size else int(away[-1]) + 1


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_to_equilibrium_with_and_without(momentum: float) -> None:
    """Without, as many as the transient says; with, the buffer's start-up and no more."""
    lr, decay = 0.1, 0.02 * (1 - momentum)
    steps = {}
    for scaled in (False, True):
        noise = Noise()
        optimizer = torch.optim.SGD(
            noise.model.parameters(), lr=lr, weight_decay=decay, momentum=momentum
        )
        with torch.no_grad():
            noise.model[0].weight.mul_(20.0)
        if scaled:
            generator = torch.Generator().manual_seed(1)
            batches = (torch.randn(20, 40, generator=generator) for _ in range(10))
            start = scale_to_equilibrium(noise.model, optimizer, noise.groups, batches, noise.loss)
            assert start.unit_grad_sq[0] == pytest.approx(799, rel=0.05)
        hp = HyperParameters("sgd", lr=lr, weight_decay=decay, momentum=momentum)
        angles = noise.angles(optimizer, 1500)
        steps[scaled] = steps_until_near(angles, theory.equilibrium_angle(hp))
    assert steps[True] <= (0 if momentum == 0 else 60)
    assert steps[False] > 5 * max(steps[True], 20)


def test_it_aims_for_the_rate_it_is_told() -> None:
    noise = Noise()
    batches = [torch.randn(20, 40) for _ in range(4)]
    optimizer = torch.optim.SGD(noise.model.parameters(), lr=0.0, weight_decay=0.01)
    with pytest.raises(InvalidArgument, match=r"learning rate is 0 now.*lr="):
        scale_to_equilibrium(noise.model, optimizer, noise.groups, batches, noise.loss)
    events: list[tuple[str, dict]] = []
    start = scale_to_equilibrium(
        noise.model,
        optimizer,
        noise.groups,
        batches,
        noise.loss,
        lr=0.2,
        on_event=lambda kind, **data: events.append((kind, data)),
    )
    hp = HyperParameters("sgd", lr=0.2, weight_decay=0.01)
    wanted = theory.equilibrium_norm(hp, unit_grad_sq=float(start.unit_grad_sq[0]))
    assert float(noise.model[0].weight.detach().norm()) == pytest.approx(wanted, rel=1e-5)
    assert events == [("rescaled", {"groups": ["0"], "factors": start.factors.tolist()})]
    assert "norm before" in str(start)
    assert "0 " in str(start)


def test_state_that_is_there_is_scaled_along() -> None:
    """A restart in the middle: the next step turns by the same angle times 1/c²."""
    noise = Noise()
    optimizer = torch.optim.SGD(noise.model.parameters(), lr=0.1, weight_decay=0.02, momentum=0.9)
    noise.angles(optimizer, 30)
    before = optimizer.state[noise.model[0].weight]["momentum_buffer"].clone()
    start = scale_to_equilibrium(
        noise.model, optimizer, noise.groups, [torch.randn(20, 40)], noise.loss
    )
    after = optimizer.state[noise.model[0].weight]["momentum_buffer"]
    torch.testing.assert_close(after * start.factors[0], before)


def test_groups_without_gradient_or_norm_are_left_and_named() -> None:
    model = network()
    model[3].weight.data.zero_()
    groups = find_groups(network(), data()[0][0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    start = scale_to_equilibrium(model, optimizer, groups, data(), loss_of(model))
    assert start.factors[start.names.index("3")] == 1.0
    assert start.left["3"] == "left as it is: its norm is zero"
    assert "its norm is zero" in str(start)
    assert not model[3].weight.any()
    # Behind weights that are all zero nothing gets a gradient.
    assert start.left["0"] == "left as it is: its gradient is zero"


def test_groups_without_decay_are_left_and_named(caplog) -> None:
    """As in "no decay for norms and biases", where a bias may be a group of its own."""
    model = network()
    groups = find_groups(model, data()[0][0])
    split = [
        {"params": model[3].parameters(), "weight_decay": 0.0},
        {"params": [p for i in (0, 1, 4, 6) for p in model[i].parameters()]},
    ]
    optimizer = torch.optim.SGD(split, lr=0.1, weight_decay=1e-3)
    before = model[3].weight.detach().clone()
    start = scale_to_equilibrium(model, optimizer, groups, data(), loss_of(model))
    assert torch.equal(model[3].weight, before)
    assert start.factors[start.names.index("3")] == 1.0
    assert abs(math.log(start.factors[start.names.index("0")])) > 0.1
    assert "its weight decay is 0" in start.left["3"]
    assert "'3' (left as it is: its weight decay is 0" in caplog.text


class Root(nn.Module):
    """A finite loss whose gradient is not: √|x| at x = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x)).square().sum() + (self.fc(x * 0.0)).square().sum().sqrt()


def test_a_gradient_that_is_not_finite_is_named_as_that() -> None:
    model = Root()
    piece = Slice("fc.weight", 0, 0, 4)
    group = InvariantGroup("fc", "scale", (piece,), ((piece,),), 16, defect=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    before = model.fc.weight.detach().clone()
    for max_defect in (0.1, None):
        with pytest.raises(ModelError, match=r"gradient of group 'fc' must be finite.*loss is fin"):
            scale_to_equilibrium(
                model, optimizer, [group], [torch.randn(2, 4)], model, max_defect=max_defect
            )
    assert torch.equal(model.fc.weight, before)


class Remembering(torch.optim.SGD):
    """Keeps something of the weights' shape that nobody knows."""

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["sum_of_squares"] = torch.ones_like(parameter)
        return loss


def test_unknown_state_is_refused_before_anything_or_told() -> None:
    noise = Noise()
    optimizer = Remembering(noise.model.parameters(), lr=0.1, weight_decay=0.02, momentum=0.9)
    noise.angles(optimizer, 3)
    weight = noise.model[0].weight
    state = optimizer.state[weight]
    before = [t.detach().clone() for t in (weight, weight.grad, *state.values())]
    batches = [torch.randn(20, 40)]
    asked = []

    def loss(batch: torch.Tensor) -> torch.Tensor:
        asked.append(1)
        return noise.loss(batch)

    with pytest.raises(NoTheory, match=r"'sum_of_squares'.*Pass powers="):
        scale_to_equilibrium(noise.model, optimizer, noise.groups, batches, loss)
    assert not asked  # told before the work is done
    for a, b in zip((weight, weight.grad, *state.values()), before, strict=True):
        assert torch.equal(a, b)
    start = scale_to_equilibrium(
        noise.model, optimizer, noise.groups, batches, loss, powers={"sum_of_squares": -2}
    )
    c = float(start.factors[0])
    assert abs(math.log(c)) > 0.1
    scaled = dict(zip(("w", "g", *state), before, strict=True))
    torch.testing.assert_close(weight.detach(), scaled["w"] * c)
    torch.testing.assert_close(weight.grad, scaled["g"] / c)
    torch.testing.assert_close(state["momentum_buffer"], scaled["momentum_buffer"] / c)
    torch.testing.assert_close(state["sum_of_squares"], scaled["sum_of_squares"] / c**2)


def test_a_thousand_filters_are_scaled_tensor_by_tensor() -> None:
    """The work on tensors does not go with the number of groups."""
    calls = {}
    for rows in (8, 512):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, rows, bias=False), nn.BatchNorm1d(rows))
        pieces = [Slice("0.weight", 0, i, i + 1) for i in range(rows)]
        groups = [InvariantGroup(str(p), "scale", (p,), ((p,),), 4, defect=0.0) for p in pieces]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3, momentum=0.9)
        x = torch.randn(16, 4)
        target = torch.randn(16, rows)
        (model(x) * target).sum().backward()
        optimizer.step()

        def loss(x: torch.Tensor, model: nn.Module = model, y: torch.Tensor = target):
            return (model(x) * y).sum()

        with torch.profiler.profile() as profile:
            start = scale_to_equilibrium(model, optimizer, groups, [x], loss)
        assert np.abs(np.log(start.factors)).min() > 0.0
        calls[rows] = sum(e.count for e in profile.key_averages() if e.key == "aten::mul_")
    assert calls[8] == calls[512] > 0


def test_refusals() -> None:
    model, batches = network(), data()
    groups = find_groups(model, batches[0][0])
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)

    def attempt(optimizer=sgd, batches=batches, loss=None, **options):
        return scale_to_equilibrium(
            model, optimizer, groups, batches, loss or loss_of(model), **options
        )

    with pytest.raises(OutOfDomain, match=r"0 < lr × weight_decay.*first '0'.*Set weight_decay"):
        attempt(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(OutOfDomain, match=r"group '0' at lr=10, weight_decay=10: "):
        attempt(torch.optim.SGD(model.parameters(), lr=10.0, weight_decay=10.0))
    broken = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    broken.param_groups[0]["lr"] = math.nan
    with pytest.raises(InvalidArgument, match=r"group '0' .* outside its range: lr=nan"):
        attempt(broken)
    for bad in (0.0, math.nan, "0.1"):
        with pytest.raises(InvalidArgument, match=r"scale_to_equilibrium\(lr=\.\.\.\) must be"):
            attempt(lr=bad)
    with pytest.raises(InvalidArgument, match=r"on_event=\.\.\.\) must be callable"):
        attempt(on_event=5)
    with pytest.raises(InvalidArgument, match=r"depends on the weights.*\.detach\(\)"):
        attempt(loss=lambda batch: loss_of(model)(batch).detach())
    muon = torch.optim.RMSprop(model.parameters(), weight_decay=1e-3)
    with pytest.raises(NoTheory, match=r"group '0' at .*no closed form"):
        attempt(muon)
    with pytest.raises(InvalidArgument, match=r"stepped by none of the optimizers"):
        attempt(torch.optim.SGD(model[0].parameters(), lr=0.1, weight_decay=1e-3))
    with pytest.raises(InvalidArgument, match=r"batches=\.\.\.\) is empty"):
        attempt(batches=iter(()))
    with pytest.raises(InvalidArgument, match=r"finite scalar.*shape \(32, 3\) on batch 0"):
        attempt(loss=lambda batch: model(batch[0]))
    with pytest.raises(InvalidArgument, match=r"finite scalar tensor, got nan on"):
        attempt(loss=lambda batch: model(batch[0]).sum() * math.nan)
    with pytest.raises(TypeError, match="unexpected keyword argument 'unit_grad'"):
        attempt(unit_grad=3.0)
    with pytest.raises(ModelError, match="may hold a penalty on the weights"):
        attempt(loss=lambda batch: 100 * sum(p.square().sum() for p in model.parameters()))
    model.eval()
    with pytest.raises(ModelError, match=r"eval mode.*model\.train\(\)"):
        attempt(max_defect=0.01)
    model.train()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ZeroDivisionError):
        attempt(loss=lambda batch: 1 / 0)
    for a, b in zip(before, model.parameters(), strict=True):
        assert torch.equal(a, b)
