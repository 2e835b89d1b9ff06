"""Rotational: the angle is the target's, the norm stays, and everything else is the optimizer's."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from optim.steered import SETTINGS, Loose, angle_between, backward, digits, train, whole
from torch import nn
from torch.optim import lr_scheduler

import spherical_motion as smd
from spherical_motion import theory
from spherical_motion.binding import bind
from spherical_motion.errors import AlreadyAttached, InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.optim import rotational as rotational_module
from spherical_motion.optim.engine import CpuRotation
from spherical_motion.optim.engine.rotation import LOST, TorchRotation, coefficients
from spherical_motion.optim.rotational import Rotational
from spherical_motion.optim.steering import SgdStep
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice

BACKENDS = ("compiled", "torch")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(rotational_module.CpuRotation, "fits", lambda members: False)
    return request.param


def measured(members, before, after):
    """Angles and norms of every group, in float64, written out."""
    angles, norms = [], []
    for own in members.pieces:
        a = [p.of(before[id(p.parameter)]).double().flatten() for p in own]
        b = [p.of(after[id(p.parameter)]).double().flatten() for p in own]
        angles.append(angle_between(torch.cat(a), torch.cat(b)))
        norms.append(float(torch.cat(b).norm()))
    return np.array(angles), np.array(norms)


def copies(members):
    return {id(p): p.detach().clone() for p in members.parameters}


@pytest.mark.parametrize("granularity", ["layer", "filter"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_angle_is_the_equilibrium_angle_at_every_step(name, granularity, backend):
    model, x, y, groups = digits(torch.float64, granularity)
    optimizer = SETTINGS[name](model.parameters())
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, optimizer.param_groups[0]["lr"], total_steps=12, cycle_momentum=False
    )
    class_name = type(optimizer).__name__
    with Rotational(model, optimizer, groups) as rotational:
        members = rotational.members
        start = measured(members, copies(members), copies(members))[1]
        turnable = np.array([group.numel > 1 for group in groups])
        for _ in range(6):
            hp = HyperParameters.from_param_group(class_name, optimizer.param_groups[0])
            optimizer.zero_grad()
            backward(model, x, y)
            before = copies(members)
            optimizer.step()
            angles, norms = measured(members, before, copies(members))
            scheduler.step()
            target = theory.equilibrium_angle(hp)
            assert rotational.angles()[groups[0].name] == target
            np.testing.assert_allclose(angles[turnable], target, rtol=1e-9)
            np.testing.assert_allclose(norms, start, rtol=1e-12)


@pytest.mark.parametrize("lr", [0.1, 1e-3])
@pytest.mark.parametrize("entries", [100, 10_000, 1_000_000])
def test_in_float32_the_angle_is_limited_by_the_rounding_of_stored_weights(entries, lr, backend):
    """An error of some 1e-7/√n along the step, (6e-8)²/Δ from across it; always below 1e-6 rad."""
    model = Loose(entries, 1, dtype=torch.float32)
    with torch.no_grad():
        model.weight.div_(model.weight.norm())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=1e-4, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with Rotational(model, optimizer, [model.group]) as rotational:
        for _ in range(5):
            model.random_gradient(generator)
            before = model.weight.detach().clone()
            optimizer.step()
            target = rotational.angles()["weight"]
            worst = max(worst, abs(angle_between(before, model.weight) - target))
    assert worst < 1e-6
    bound = 5e-7 / math.sqrt(entries) + (6e-8) ** 2 / target
    assert worst < bound
    if entries >= 10_000 and lr == 0.1:
        assert worst / target < 1e-6  # 1e-6 of the angle, too, where ResNet50 trains


def test_the_direction_is_the_tangential_part_of_the_step(backend):
    model = Loose(20, 7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3, momentum=0.9)
    plain = Loose(20, 7)
    alone = torch.optim.SGD(plain.parameters(), lr=0.1, weight_decay=1e-3, momentum=0.9)
    model.random_gradient(torch.Generator().manual_seed(0))
    plain.weight.grad = model.weight.grad.clone()
    w = model.weight.detach().clone()
    alone.step()
    with Rotational(model, optimizer, [model.group]) as rotational:
        optimizer.step()
        angle = rotational.angles()["weight"]
    d = plain.weight.detach() - w
    t = d - (d * w).sum() / w.square().sum() * w
    expected = math.cos(angle) * w + math.sin(angle) * w.norm() * t / t.norm()
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-12, atol=1e-14)


def test_what_is_in_no_group_is_the_optimizers_to_the_bit(backend):
    def fresh():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(54, 3))
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)

    x, y = torch.randn(8, 1, 5, 5), torch.randint(0, 3, (8,))
    part = Slice("0.weight", 0, 2, 5)
    group = InvariantGroup("part", "scale", (part,), (), 27, defect=0.0)
    model, optimizer = fresh()
    plain, alone = fresh()
    with Rotational(model, optimizer, [group]):
        train(model, optimizer, x, y, 1)
    train(plain, alone, x, y, 1)
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        if name == "0.weight":
            assert torch.equal(p[:2], q[:2])
            assert torch.equal(p[5:], q[5:])
            assert not torch.equal(p[2:5], q[2:5])
        else:
            assert torch.equal(p, q)


def hostile_members(dtype):
    """Filters on both axes, a joint group, one entry, a zero, a radial and a broken step."""
    torch.manual_seed(3)
    net = nn.Module()
    shapes = {"a": (6, 5), "b": (4, 7, 3), "c": (5,), "d": (8, 3, 3, 2), "e": (300, 700)}
    for name, shape in shapes.items():
        net.register_parameter(name, nn.Parameter(torch.randn(shape, dtype=dtype)))
    net.d = nn.Parameter(net.d.detach().to(memory_format=torch.channels_last))

    def group(name, *slices):
        return InvariantGroup(name, "scale", slices, (), sum(n for _, n in SIZES[name]), 0.0)

    SIZES = {n: [(n, 2)] for n in ("a0", "a12", "a3", "a5", "b0", "b13", "d", "e", "joint", "one")}
    SIZES["one"] = [("one", 1)]
    groups = [
        group("a0", Slice("a", 0, 0, 1)),
        group("a12", Slice("a", 0, 1, 3)),
        group("a3", Slice("a", 0, 3, 4)),
        group("b0", Slice("b", 1, 0, 1)),
        group("b13", Slice("b", 1, 2, 4)),
        group("joint", Slice("c", 0, 0, 2), Slice("a", 0, 4, 5)),
        group("one", Slice("c", 0, 4, 5)),
        group("d", Slice("d", 0, 0, 8)),
        group("e", Slice("e", 0, 0, 300)),
    ]
    return net, bind(net, groups)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_and_torch_agree_also_on_hostile_steps(dtype):
    results = []
    for backend in (TorchRotation, CpuRotation):
        net, members = hostile_members(dtype)
        count = len(members)
        lost = torch.full((count,), LOST[dtype], dtype=torch.float64)
        turns = torch.tensor([group.numel > 1 for group in members.groups])
        with torch.no_grad():
            net.a[0].zero_()  # a group of norm 0 ...
            before = [p.detach().clone() for p in members.parameters]
            generator = torch.Generator().manual_seed(5)
            for p in members.parameters:
                p.add_(0.01 * torch.randn(p.shape, generator=generator, dtype=dtype))
            net.a[3].copy_(before[0][3] * 0.99)  # ... a radial step ...
            net.b[1, 0, 1] = math.nan  # ... and one that is not finite
        radius = members.sums(before, before).sqrt()
        rotate = backend(members, turns, lost)
        after_step = {id(p): p.detach().clone() for p in members.parameters}
        rotate(before, torch.linspace(1e-3, 3.0, count, dtype=torch.float64), radius)
        rotate.close()
        results.append([p.detach().clone() for p in members.parameters] + [radius])
        olds = dict(zip((id(p) for p in members.parameters), before, strict=True))
        assert torch.equal(net.a[0], after_step[id(net.a)][0])
        torch.testing.assert_close(net.a[3].detach(), olds[id(net.a)][3])
        assert math.isnan(float(net.b[1, 0, 1].detach()))
        torch.testing.assert_close(net.b[0, 0].detach(), after_step[id(net.b)][0, 0])
        assert torch.equal(net.a[5], after_step[id(net.a)][5])  # in no group
        torch.testing.assert_close(net.c[4].detach(), olds[id(net.c)][4])  # one entry
    for ours, reference in zip(*results, strict=True):
        rtol = 3e-6 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(ours, reference, rtol=rtol, atol=rtol / 30, equal_nan=True)


def test_a_step_read_off_sgds_buffer_is_that_of_a_copy(monkeypatch):
    """The same run three times: with the copy, without it, and with closures, which need it."""
    results = []
    for way in ("read", "copied", "closure"):
        with monkeypatch.context() as patch:
            if way == "copied":
                patch.setattr(SgdStep, "can_be_read", lambda *_: False)
            model, x, y, groups = digits(torch.float64)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
            with Rotational(model, optimizer, groups) as rotational:
                told = []
                for step in range(6):
                    optimizer.zero_grad()
                    if way != "closure":
                        backward(model, x, y)
                    if step == 4:
                        model.layer2.conv1.weight.requires_grad_(False)
                        model.layer2.conv1.weight.grad = None
                    optimizer.step(partial(backward, model, x, y) if way == "closure" else None)
                    told.append(rotational._reading)
        assert told == [False] + [way == "read"] * 5
        results.append([p.detach().clone() for p in model.parameters()])
    for read, copied, closure in zip(*results, strict=True):
        torch.testing.assert_close(read, copied, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(closure, copied, rtol=1e-9, atol=1e-12)


def test_the_number_of_threads_does_not_matter(monkeypatch):
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        model = Loose(2000, 300, dtype=torch.float32)
        groups = [
            InvariantGroup(str(r), "scale", (Slice("weight", 0, r, r + 1),), (), 300, 0.0)
            for r in range(2000)
        ]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
        with Rotational(model, optimizer, groups):
            model.random_gradient(torch.Generator().manual_seed(0))
            optimizer.step()
        results.append(model.weight.detach().clone())
    assert torch.equal(*results)


def test_coefficients_lie_on_the_circle():
    """Any step whatever: A·w + B·d has the radius, and the angle to w."""
    generator = torch.Generator().manual_seed(0)
    w, d = torch.randn(2, 50, 9, generator=generator, dtype=torch.float64)
    d *= torch.logspace(-6, 3, 50, dtype=torch.float64)[:, None]
    angle = torch.linspace(0.0, math.pi, 50, dtype=torch.float64)
    radius = torch.linspace(0.1, 9.0, 50, dtype=torch.float64)
    a, b = coefficients(
        (w * w).sum(1), (w * d).sum(1), (d * d).sum(1), angle, radius, angle >= 0, 1e-16 * radius
    )
    turned = a[:, None] * w + b[:, None] * d
    torch.testing.assert_close(turned.norm(dim=1), radius, rtol=1e-12, atol=0)
    for i in range(50):
        assert angle_between(w[i], turned[i]) == pytest.approx(float(angle[i]), abs=1e-10)


def test_the_norm_does_not_drift(backend):
    model = Loose(40, 40, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=1e-2, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    start = float(model.weight.detach().double().norm())
    with Rotational(model, optimizer, [model.group]):
        for _ in range(500):
            model.random_gradient(generator)
            optimizer.step()
            assert float(model.weight.detach().double().norm()) == pytest.approx(start, rel=2e-7)


def test_a_parameter_without_gradient_stands_still(backend):
    model, x, y, groups = digits(torch.float32)
    model.conv.weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3, momentum=0.9)
    before = model.conv.weight.detach().clone()
    other = model.layer1.conv1.weight.detach().clone()
    with Rotational(model, optimizer, groups):
        train(model, optimizer, x, y, 3)
    torch.testing.assert_close(model.conv.weight.detach(), before, rtol=3e-7, atol=0)
    assert angle_between(other, model.layer1.conv1.weight) > 1e-3


def test_a_zero_gradient_is_no_direction_only_rounding_is_left(backend):
    """Weight decay alone moves weights radially; what rounding makes of it must not be turned."""
    model = Loose(50, 50, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    before = model.weight.detach().clone()
    with Rotational(model, optimizer, [model.group]):
        for _ in range(20):
            model.weight.grad = torch.zeros_like(model.weight)
            optimizer.step()
    assert angle_between(before, model.weight) < 1e-6
    torch.testing.assert_close(model.weight.detach(), before, rtol=3e-6, atol=0)


def test_zero_weights_are_the_optimizers_until_they_have_a_norm(backend):
    model = Loose(6, 5)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    with Rotational(model, optimizer, [model.group]):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
        assert not model.weight.any()
        gradient = torch.randn(6, 5, generator=generator, dtype=torch.float64)
        model.weight.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(model.weight.detach(), -0.1 * gradient)
        held = float(model.weight.detach().norm())
        for _ in range(3):
            before = model.weight.detach().clone()
            model.random_gradient(generator)
            optimizer.step()
            assert float(model.weight.detach().norm()) == pytest.approx(held, rel=1e-12)
            assert angle_between(before, model.weight) == pytest.approx(
                2 * math.asin(math.sqrt(2e-3) / 2), rel=1e-9
            )


def test_fan_in_one_neither_turns_nor_flips(backend):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3, bias=False), nn.BatchNorm2d(3))
    x = torch.randn(8, 3, 4, 4)
    rows = [Slice("0.weight", 0, r, r + 1) for r in range(3)]
    groups = [InvariantGroup(str(s), "scale", (s,), (), 1, defect=0.0) for s in rows]
    before = net[0].weight.detach().clone()
    optimizer = torch.optim.SGD([net[0].weight], lr=50.0, weight_decay=1e-2)
    with Rotational(net, optimizer, groups):
        for _ in range(5):
            optimizer.zero_grad()
            (net(x) * torch.arange(4.0)).exp().mean().backward()
            net[0].weight.grad.add_(1.0)  # a rough gradient: nothing guards users from it
            optimizer.step()
    torch.testing.assert_close(net[0].weight.detach(), before, rtol=3e-7, atol=0)


def test_a_step_that_is_not_finite_is_left_to_be_seen(backend):
    model = Loose(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with Rotational(model, optimizer, [model.group]):
        model.weight.grad = torch.full_like(model.weight, math.inf)
        optimizer.step()
    assert not torch.isfinite(model.weight).any()


def test_warm_up_from_zero_and_the_end_of_a_cosine(backend):
    model = Loose(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=1e-2)
    rates = [0.0, 0.1, 0.2, 0.0]
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: rates[min(t, 3)])
    generator = torch.Generator().manual_seed(0)
    seen = []
    with Rotational(model, optimizer, [model.group]):
        for _ in rates:
            model.random_gradient(generator)
            before = model.weight.detach().clone()
            optimizer.step()
            scheduler.step()
            seen.append(angle_between(before, model.weight))
    expected = [2 * math.asin(math.sqrt(2e-2 * lr) / 2) for lr in rates]
    assert seen == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_step_with_a_closure(backend):
    model, x, y, groups = digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)

    def closure():
        optimizer.zero_grad()
        return backward(model, x, y)

    with Rotational(model, optimizer, groups) as rotational:
        before = model.conv.weight.detach().clone()
        assert optimizer.step(closure).requires_grad
        angle = angle_between(before, model.conv.weight)
        assert angle == pytest.approx(rotational.angles()["conv"], rel=1e-9)


def test_a_step_the_gradient_scaler_skips_turns_nothing(backend):
    model, x, y, groups = digits(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = model.conv.weight.detach().clone()
    with Rotational(model, optimizer, groups):
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        model.conv.weight.grad[0, 0, 0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        torch.testing.assert_close(model.conv.weight.detach(), before, rtol=3e-7, atol=0)
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        assert angle_between(before, model.conv.weight) > 1e-3


def test_moved_weights_are_found_again(backend):
    model, x, y, groups = digits(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    with Rotational(model, optimizer, groups) as rotational:
        train(model, optimizer, x, y, 1)
        model.to(memory_format=torch.channels_last)
        for p in model.parameters():  # and somewhere else in memory
            p.data = p.data.clone()
        before = copies(rotational.members)
        train(model, optimizer, x, y, 1)
        angles, _ = measured(rotational.members, before, copies(rotational.members))
        np.testing.assert_allclose(angles, list(rotational.angles().values()), rtol=1e-5)


@pytest.mark.parametrize("first", ["monitor", "rotational"])
def test_a_monitor_records_the_rotated_weights(tmp_path, first):
    model = Loose(100, 100, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    make = {
        "monitor": lambda: smd.Monitor(model, optimizer, [model.group], tmp_path, quiet=True),
        "rotational": lambda: Rotational(model, optimizer, [model.group]),
    }
    order = ["monitor", "rotational"] if first == "monitor" else ["rotational", "monitor"]
    made = [make[name]() for name in order]
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        model.random_gradient(generator)
        optimizer.step()
    for one in made:
        one.close()
    hp = HyperParameters("sgd", lr=0.1, momentum=0.9, weight_decay=1e-2)
    np.testing.assert_allclose(
        np.asarray(smd.read(tmp_path).angle()), theory.equilibrium_angle(hp), rtol=1e-6
    )


def test_saved_and_loaded_it_goes_on_bit_for_bit(backend):
    def fresh():
        model, x, y, groups = digits(torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        return model, optimizer, x, y, groups

    model, optimizer, x, y, groups = fresh()
    with Rotational(model, optimizer, groups) as rotational:
        train(model, optimizer, x, y, 3)
        saved = (
            {k: v.clone() for k, v in model.state_dict().items()},
            optimizer.state_dict(),
            rotational.state_dict(),
        )
        saved[1]["state"] = {
            k: {n: v.clone() for n, v in s.items() if v is not None}
            for k, s in saved[1]["state"].items()
        }
        train(model, optimizer, x, y, 3)
    again, optimizer2, *_ = fresh()
    with Rotational(again, optimizer2, groups) as rotational:
        again.load_state_dict(saved[0])
        optimizer2.load_state_dict(saved[1])
        rotational.load_state_dict(saved[2])
        train(again, optimizer2, x, y, 3)
        with pytest.raises(InvalidArgument, match="expected the radii of"):
            rotational.load_state_dict({"names": ["other"], "radius": torch.ones(1)})
    for p, q in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_closed_the_optimizer_is_alone_again():
    model, plain = Loose(3, 3), Loose(3, 3)
    optimizers = [
        torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=1e-2) for m in (model, plain)
    ]
    rotational = Rotational(model, optimizers[0], [model.group])
    with pytest.raises(AlreadyAttached, match=r"a Rotational acts on this SGD already.*close"):
        Rotational(model, optimizers[0], [model.group])
    rotational.close()
    rotational.close()
    for m, optimizer in zip((model, plain), optimizers, strict=True):
        m.random_gradient(torch.Generator().manual_seed(0))
        optimizer.step()
    assert torch.equal(model.weight, plain.weight)


class Unheard(torch.optim.NAdam):
    """Its class name is not known."""


def test_bad_input_is_refused_with_a_remedy():
    model = Loose(3, 3)

    def sgd(**options):
        return torch.optim.SGD(model.parameters(), lr=0.1, **options)

    with pytest.raises(InvalidArgument, match=r"weight_decay must be > 0.*got 0 for sgd"):
        Rotational(model, sgd(), [model.group])
    with pytest.raises(NoTheory, match=r"Or pass angle=callable"):
        Rotational(model, Unheard(model.parameters(), lr=0.1, weight_decay=0.1), [model.group])
    with pytest.raises(InvalidArgument, match="expects at least one group"):
        Rotational(model, sgd(weight_decay=0.1), [])
    half = Loose(3, 3, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(half.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"must be float32 or float64, got torch.bfloat16"):
        Rotational(half, optimizer, [whole("weight", half.weight)])
    optimizer = sgd(weight_decay=0.1)
    for _ in range(2):  # nothing was left attached
        Rotational(model, optimizer, [model.group]).close()


def test_an_angle_of_ones_own_for_an_optimizer_without_theory():
    model = Loose(9, 9)
    optimizer = Unheard(model.parameters(), lr=0.1)
    own = lambda hp, group: 0.1 * group.numel / 81  # noqa: E731
    with Rotational(model, optimizer, [model.group], angle=own):
        before = model.weight.detach().clone()
        model.random_gradient(torch.Generator().manual_seed(0))
        optimizer.step()
    assert angle_between(before, model.weight) == pytest.approx(0.1, rel=1e-10)


def test_correlation_serves_decoupled_optimizers():
    model = Loose(9, 9)
    optimizer = torch.optim.Muon(model.parameters(), lr=0.02, weight_decay=0.1, momentum=0.95)
    with pytest.raises(NoTheory, match="correlation"):
        Rotational(model, optimizer, [model.group])
    with Rotational(model, optimizer, [model.group], correlation=39.0):
        before = model.weight.detach().clone()
        model.random_gradient(torch.Generator().manual_seed(0))
        optimizer.step()
    assert angle_between(before, model.weight) == pytest.approx(0.010127, abs=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 7.0, math.pi, None])
def test_an_angle_is_checked_for_every_group_and_at_every_change(bad):
    model = Loose(4, 5)
    groups = [
        InvariantGroup(str(r), "scale", (Slice("weight", 0, r, r + 1),), (), 5, 0.0)
        for r in range(4)
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(OutOfDomain, match=r"angle=.*\[0, π\), got .* for group '3'"):
        Rotational(model, optimizer, groups, angle=lambda hp, g: bad if g.name == "3" else 0.1)
    with Rotational(
        model, optimizer, groups, angle=lambda hp, g: bad if hp.lr < 0.1 else 0.1
    ) as rotational:
        optimizer.step()
        assert rotational.angles() == dict.fromkeys("0123", 0.1)
        optimizer.param_groups[0]["lr"] = 0.01
        with pytest.raises(OutOfDomain, match=r"for group '0' at lr=0.01"):
            optimizer.step()


def test_a_correlation_that_would_be_ignored_is_refused():
    model = Loose(3, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"correlation=.*no use for AdamW"):
        Rotational(model, optimizer, [model.group], correlation=2.0)
    muon = torch.optim.Muon(model.parameters(), lr=0.02, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match="not both"):
        Rotational(model, muon, [model.group], correlation=2.0, angle=lambda hp, g: 0.1)
    with pytest.raises(InvalidArgument, match=r"correlation=.*finite number"):
        Rotational(model, muon, [model.group], correlation=math.nan)


def test_adam_with_l2_is_refused_in_words_of_its_own():
    model = Loose(3, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(NoTheory, match=r"Rotational, Adam: .*pass angle=callable") as raised:
        Rotational(model, optimizer, [model.group])
    assert "unit_grad_rms" not in str(raised.value)
    assert "equilibrium_" not in str(raised.value)
    with Rotational(model, optimizer, [model.group], angle=lambda hp, group: 0.1):
        pass


def test_groups_without_decay_are_named():
    model = Loose(3, 3)
    model.extra = nn.Parameter(torch.ones(3, 2))
    parts = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.extra]}]
    optimizer = torch.optim.SGD(parts, lr=0.1)
    with pytest.raises(InvalidArgument, match=r"which steps 'extra' \(1 of 2\)"):
        Rotational(model, optimizer, [model.group, whole("extra", model.extra)])


@pytest.mark.parametrize("order", ["model first", "optimizer first"])
def test_radii_are_those_of_loaded_weights(order, backend):
    model = Loose(6, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with Rotational(model, optimizer, [model.group]) as rotational:
        loads = [
            lambda: model.load_state_dict({"weight": 3.0 * torch.ones(6, 5)}),
            lambda: optimizer.load_state_dict(optimizer.state_dict()),
        ]
        for load in loads if order == "model first" else loads[::-1]:
            load()
        radius = float(model.weight.detach().norm())
        model.random_gradient(torch.Generator().manual_seed(0))
        optimizer.step()
        assert float(model.weight.detach().norm()) == pytest.approx(radius, rel=1e-12)
        # Its own state goes before, whether it is loaded first or last.
        state = {"names": ["weight"], "radius": torch.tensor([7.0], dtype=torch.float64)}
        rotational.load_state_dict(state)
        optimizer.load_state_dict(optimizer.state_dict())
        model.random_gradient(torch.Generator().manual_seed(0))
        optimizer.step()
        assert float(model.weight.detach().norm()) == pytest.approx(7.0, rel=1e-12)
        for bad in ({}, None):
            with pytest.raises(InvalidArgument, match="'names', 'radius' is missing"):
                rotational.load_state_dict(bad)


def test_a_subclass_of_torchs_own_goes_by_its_base_and_others_are_named():
    class Logged(torch.optim.SGD):
        """Steps as its base does."""

    model = Loose(6, 5)
    optimizer = Logged(model.parameters(), lr=0.1, weight_decay=1e-2)
    with Rotational(model, optimizer, [model.group]) as rotational:
        optimizer.step()
        hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-2)
        assert rotational.angles() == {"weight": theory.equilibrium_angle(hp)}
    unheard = Unheard(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(NoTheory, match="Rotational, Unheard: "):
        Rotational(model, unheard, [model.group])


def test_a_rate_that_is_no_number_is_called_that():
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=math.nan, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"lr of param_groups\[0\] must be finite"):
        Rotational(model, optimizer, [model.group])
