"""RescaleOnDecay: the function stays, and the next step turns by the new equilibrium angle."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from optim.steered import SETTINGS, Loose, angle_between, backward, digits, train, whole
from torch import nn
from torch.optim import lr_scheduler

import spherical_motion as smd
from spherical_motion import theory
from spherical_motion.errors import AlreadyAttached, InvalidArgument, NoTheory
from spherical_motion.optim.rescale_on_decay import RescaleOnDecay, equilibrium_norm_ratio
from spherical_motion.optim.rotational import Rotational
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice


def first_angle_over_target(make, steps, k=10.0, seed=0, **options):
    """Angle of the first step after lr / k, over the equilibrium angle there."""
    model = Loose(100, 40)
    optimizer = make(model.parameters())
    hp = HyperParameters.from_param_group(type(optimizer).__name__, optimizer.param_groups[0])
    with torch.no_grad():
        model.weight.mul_(
            theory.equilibrium_norm(hp, unit_grad_sq=1.0, numel=4000) / model.weight.norm()
        )
    generator = torch.Generator().manual_seed(seed)
    with RescaleOnDecay(model, optimizer, [model.group], **options):
        for step in range(steps + 1):
            model.random_gradient(generator)
            if step == steps:
                before = model.weight.detach().clone()
                optimizer.param_groups[0]["lr"] /= k
            optimizer.step()
    return angle_between(before, model.weight) / theory.equilibrium_angle(
        dataclasses.replace(hp, lr=hp.lr / k)
    )


@pytest.mark.parametrize(
    ("power", "expected"), [(-1, 1.00), (0, 0.67), (1, 0.52)], ids=["1/c", "unchanged", "c"]
)
def test_only_momentum_over_c_turns_by_the_target_at_once(power, expected):
    """wan2020, section 4.1, at α = .9, k = 10."""
    ratio = first_angle_over_target(
        SETTINGS["momentum"], steps=300, powers={"momentum_buffer": power}
    )
    assert ratio == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "lion"])
def test_other_optimizers_are_at_the_target_at_once(name):
    assert first_angle_over_target(SETTINGS[name], steps=300) == pytest.approx(1.0, abs=0.02)


def test_adam_without_its_second_moment_steps_three_times_too_far():
    def make(params):
        return torch.optim.AdamW(params, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.999))

    assert first_angle_over_target(make, steps=300) == pytest.approx(1.0, abs=0.03)
    wrong = first_angle_over_target(make, steps=300, powers={"exp_avg_sq": 0})
    assert wrong == pytest.approx(3.1, abs=0.1)


@pytest.mark.parametrize(
    ("optimizer", "options", "power"),
    [
        ("sgd", {}, 1 / 4),
        ("sgd", {"momentum": 0.9}, 1 / 4),
        ("sgd", {"momentum": 0.9, "nesterov": True}, 1 / 4),
        ("sgd", {"momentum": 0.9, "decoupled": True}, 1 / 4),
        ("adamw", {"momentum": 0.9}, 1 / 2),
        ("lion", {"momentum": 0.9, "beta2": 0.99}, 1 / 2),
        ("muon", {"momentum": 0.9}, 1 / 2),
        ("adam", {"momentum": 0.9}, 1 / 3),
    ],
)
def test_the_ratio_is_a_power_of_the_drop(optimizer, options, power):
    drops = np.geomspace(1.5, 1e3, 8)
    old = HyperParameters(optimizer, lr=1e-3, weight_decay=1e-3, **options)
    ratios = [equilibrium_norm_ratio(old, dataclasses.replace(old, lr=old.lr / k)) for k in drops]
    slope = np.polyfit(np.log(drops), np.log(ratios), 1)[0]
    assert slope == pytest.approx(-power, abs=1e-4)


def rescale_once(model, optimizer, groups, x, **options):
    """Drop the rate tenfold and let only the rescaling act: no gradient, so no step."""
    with RescaleOnDecay(model, optimizer, groups, x, **options) as rescale:
        for group in optimizer.param_groups:
            group["lr"] /= 10.0
        kept = [(p, p.grad) for p in model.parameters()]
        for p, _ in kept:
            p.grad = None
        optimizer.step()
        for p, grad in kept:
            p.grad = grad
    return rescale


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.float64, 1e-11), (torch.float32, 2e-5)], ids=["f64", "f32"]
)
@pytest.mark.parametrize("granularity", ["layer", "filter"])
def test_the_function_is_unchanged_in_training_and_in_eval_mode(dtype, rounding, granularity):
    model, x, y, groups = digits(dtype, granularity)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    train(model, optimizer, x, y, 4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}

    def outputs():
        buffers = {n: b.clone() for n, b in model.named_buffers()}
        trained = model.train()(x).detach()
        model.load_state_dict(buffers, strict=False)
        return trained, model.eval()(x).detach()

    expected = outputs()
    rescale_once(model, optimizer, groups, x)
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert set(moved) == {name for group in groups for name in group.parameters}
    for now, then in zip(outputs(), expected, strict=True):
        assert float((now - then).abs().max() / then.abs().max()) < rounding


def test_all_members_are_rescaled_and_their_gradients_fit_the_new_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8, eps=1e-30), nn.Linear(8, 3)).double()
    x, y = torch.randn(16, 5, dtype=torch.float64), torch.randint(0, 3, (16,))
    groups = smd.find_groups(model, x)
    assert groups[0].parameters == ("0.weight", "0.bias")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    train(model, optimizer, x, y, 3)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = {n: optimizer.state[p] for n, p in model.named_parameters()}
    buffers = {n: held["momentum_buffer"].clone() for n, held in state.items()}
    c = 10 ** (-1 / 4)
    optimizer.zero_grad()
    backward(model, x, y)
    taken = {n: p.grad.clone() for n, p in model.named_parameters()}

    model_grads = {}

    def look(*_):
        model_grads.update({n: p.grad.clone() for n, p in model.named_parameters()})

    with RescaleOnDecay(model, optimizer, groups[:1]):
        optimizer.param_groups[0]["lr"] /= 10.0
        handle = optimizer.register_step_pre_hook(look)
        optimizer.register_step_pre_hook(
            lambda *_: [p.grad.zero_() for p in model.parameters()] and None
        )
        lr, optimizer.param_groups[0]["weight_decay"] = optimizer.param_groups[0]["lr"], 1e-3
        optimizer.step()
        handle.remove()
    for name in ("0.weight", "0.bias"):
        torch.testing.assert_close(model_grads[name], taken[name] / c, rtol=1e-4, atol=0)
        held = optimizer.state[dict(model.named_parameters())[name]]["momentum_buffer"]
        expected = 0.9 * buffers[name] / c + 1e-3 * before[name] * c
        torch.testing.assert_close(held, expected, rtol=1e-4, atol=1e-12)
        now = dict(model.named_parameters())[name] + lr * held
        torch.testing.assert_close(now, before[name] * c, rtol=1e-4, atol=1e-12)
    assert torch.equal(model_grads["2.weight"], taken["2.weight"])


def test_gradients_taken_before_the_rescaling_are_those_at_the_new_weights():
    model, x, y, groups = digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    backward(model, x, y)
    rescale = RescaleOnDecay(model, optimizer, groups, x)
    optimizer.param_groups[0]["lr"] = 0.01
    rescale._follow()
    scaled = [p.grad.clone() for p in model.parameters()]
    optimizer.zero_grad()
    backward(model, x, y)
    for p, grad in zip(model.parameters(), scaled, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-8, atol=1e-12)
    rescale.close()


SCHEDULES = {
    "step": (lambda o: lr_scheduler.StepLR(o, 15), 3),
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, 60), 30),
    "onecycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=60), 60),
    "plateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=3), 15),
    "restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20), 60),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("threshold", [1.0, 1.1])
def test_beside_any_scheduler_the_weights_are_scaled_for_the_settings(name, threshold):
    make, most = SCHEDULES[name]
    model = Loose(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    scheduler = make(optimizer)
    events, generator = [], torch.Generator().manual_seed(0)
    rescale = RescaleOnDecay(
        model,
        optimizer,
        [model.group],
        threshold=threshold,
        on_event=lambda kind, **data: events.append((kind, data)),
    )
    factor = 1.0
    for _ in range(60):
        model.random_gradient(generator)
        seen = len(events)
        norm = float(model.weight.detach().norm())
        hp = HyperParameters.from_param_group("SGD", optimizer.param_groups[0])
        optimizer.step()
        if hp.lr > 0:
            short = abs(math.log(equilibrium_norm_ratio(rescale._scaled_for[0].settings, hp)))
            assert short <= math.log(threshold) + 1e-9
        for kind, data in events[seen:]:
            factor *= data["factor"]
            assert kind == "rescaled"
            assert data["groups"] == ["weight"]
            assert data["lr"] == hp.lr
            # One step changes the norm by a few percent, a rescaling by its factor.
            assert float(model.weight.detach().norm()) / norm == pytest.approx(
                data["factor"], rel=0.05
            )
        scheduler.step(*([1.0] if name == "plateau" else []))
    assert 0 < len(events) <= most + (40 if threshold == 1.0 else 0)
    chained = math.prod(d["factor"] for _, d in events)
    assert chained == pytest.approx(factor)
    rescale.close()


def test_warm_up_from_zero_moves_nothing_and_the_first_fall_does():
    model = Loose(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=1e-3)
    rates = [0.0, 0.02, 0.05, 0.1, 0.1, 0.01, 0.0, 0.1]
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: rates[min(t, 7)])
    events, generator = [], torch.Generator().manual_seed(0)
    with RescaleOnDecay(
        model, optimizer, [model.group], on_event=lambda kind, **d: events.append(d)
    ):
        for _ in rates:
            model.random_gradient(generator)
            optimizer.step()
            scheduler.step()
    # Down once; at rate 0 nothing; up again, because now it was followed down.
    assert [(e["lr_before"], e["lr"]) for e in events] == [(0.1, 0.01), (0.01, 0.1)]
    assert events[0]["factor"] * events[1]["factor"] == pytest.approx(1.0)


def test_warm_up_is_followed_if_asked_for():
    model = Loose(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=1e-3)
    with RescaleOnDecay(model, optimizer, [model.group], skip_warmup=False):
        norm = float(model.weight.detach().norm())
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        assert float(model.weight.detach().norm()) / norm == pytest.approx(10**0.25, rel=1e-3)


def test_a_change_of_weight_decay_counts_too():
    model = Loose(30, 30)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    with RescaleOnDecay(model, optimizer, [model.group]):
        norm = float(model.weight.detach().norm())
        optimizer.param_groups[0]["weight_decay"] = 0.4
        optimizer.step()
        assert float(model.weight.detach().norm()) / norm == pytest.approx(0.5, rel=1e-2)


def test_settings_are_seen_after_the_optimizer_was_loaded():
    model = Loose(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    with RescaleOnDecay(model, optimizer, [model.group]):
        optimizer.load_state_dict(optimizer.state_dict())  # puts new dicts in param_groups
        norm = float(model.weight.detach().norm())
        optimizer.param_groups[0]["lr"] = 0.01
        optimizer.step()
        assert float(model.weight.detach().norm()) < 0.6 * norm


@pytest.mark.parametrize("first", ["monitor", "rescale"])
def test_a_monitor_records_the_step_without_the_rescaling(tmp_path, first):
    model = Loose(30, 30, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    make = {
        "monitor": lambda: smd.Monitor(model, optimizer, [model.group], tmp_path, quiet=True),
        "rescale": lambda: RescaleOnDecay(
            model, optimizer, [model.group], on_event=lambda *a, **k: told.append((a, k))
        ),
    }
    told: list = []
    order = ["monitor", "rescale"] if first == "monitor" else ["rescale", "monitor"]
    made = {name: make[name]() for name in order}
    generator = torch.Generator().manual_seed(0)
    expected = []
    for step in range(30):
        model.random_gradient(generator)
        if step == 20:
            optimizer.param_groups[0]["lr"] /= 10
        norm = float(model.weight.detach().norm())
        before = model.weight.detach().clone()
        optimizer.step()
        expected.append((angle_between(before, model.weight), norm))
        for args, data in told:
            made["monitor"].event(*args, **data)
        told.clear()
    made["monitor"].close()
    made["rescale"].close()
    records = smd.read(tmp_path)
    angles = np.asarray(records.angle()).ravel()
    norms = np.asarray(records.norm()).ravel()
    np.testing.assert_allclose(angles, [a for a, _ in expected], rtol=1e-4)
    # The recorded norm is that before the step and after the rescaling.
    c = 10**-0.25
    factors = np.where(np.arange(30) == 20, c, 1.0)
    np.testing.assert_allclose(norms, factors * [n for _, n in expected], rtol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_the_law_of_motion_holds_across_a_rescaling(name):
    """<w, v> is what the law carries from step to step, and c·w with v/c leaves it as it is."""
    model = Loose(30, 30)
    optimizer = SETTINGS[name](model.parameters())
    generator = torch.Generator().manual_seed(0)
    held, rows, rates = [], [], []
    with RescaleOnDecay(model, optimizer, [model.group]):
        # After the rescaling, whenever it was registered: the hooks here come first.
        optimizer.register_step_pre_hook(
            lambda *_: held.append((model.weight.detach().clone(), model.weight.grad.clone()))
        )
        for step in range(40):
            if step == 20:
                optimizer.param_groups[0]["lr"] /= 10
            model.random_gradient(generator)
            optimizer.step()
            w, g = held[-1]
            d = model.weight.detach() - w
            rows.append([float((a * b).sum()) for a, b in pairs(w, d, g)])
            rates.append(optimizer.param_groups[0]["lr"])
    hp = HyperParameters.from_param_group("SGD", optimizer.param_groups[0])
    residual = theory.law_of_motion_residual(
        hp,
        smd.Gram.from_array(np.array(rows)),
        steps=np.arange(40),
        lr=np.array(rates),
        weight_decay=hp.weight_decay,
        momentum=hp.momentum,
        first_step=0,
    )
    assert residual.max() < 1e-8
    norms = np.sqrt(np.array(rows)[:, 0])
    assert norms[20] / norms[19] == pytest.approx(10**-0.25, rel=0.01)


def pairs(w, d, g):
    """In the order of a Gram's fields."""
    return (w, w), (w, d), (d, d), (w, g), (g, g), (d, g)


def test_saved_and_loaded_it_goes_on():
    def fresh():
        model = Loose(30, 30)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        return model, optimizer

    def step(model, optimizer, generator):
        model.random_gradient(generator)
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.9

    model, optimizer = fresh()
    generator = torch.Generator().manual_seed(0)
    with RescaleOnDecay(model, optimizer, [model.group], threshold=1.2) as rescale:
        for _ in range(6):
            step(model, optimizer, generator)
        saved = (
            {k: v.clone() for k, v in model.state_dict().items()},
            optimizer.state_dict(),
            rescale.state_dict(),
            generator.get_state(),
        )
        saved = torch.load(_through_file(saved), weights_only=True)
        for _ in range(20):
            step(model, optimizer, generator)
    again, optimizer2 = fresh()
    again.load_state_dict(saved[0])
    with RescaleOnDecay(again, optimizer2, [again.group], threshold=1.2) as rescale:
        optimizer2.load_state_dict(saved[1])
        rescale.load_state_dict(saved[2])
        generator.set_state(saved[3])
        for _ in range(20):
            step(again, optimizer2, generator)
    assert torch.equal(again.weight, model.weight)


def _through_file(value):
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def test_state_of_other_groups_is_refused():
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with (
        RescaleOnDecay(model, optimizer, [model.group]) as rescale,
        pytest.raises(InvalidArgument, match="expected 1 param groups"),
    ):
        rescale.load_state_dict({"reference": [None, None], "fallen": [False, False]})


def test_closed_it_does_nothing_and_another_may_come():
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    rescale = RescaleOnDecay(model, optimizer, [model.group])
    for cls in (RescaleOnDecay, Rotational):
        with pytest.raises(AlreadyAttached, match="a RescaleOnDecay acts on this SGD already"):
            cls(model, optimizer, [model.group])
    rescale.close()
    rescale.close()
    optimizer.param_groups[0]["lr"] = 0.001
    before = model.weight.detach().clone()
    optimizer.step()
    assert torch.equal(model.weight, before)
    with RescaleOnDecay(model, optimizer, [model.group]):
        pass


def test_step_with_a_closure_is_rescaled_before_the_closure_runs():
    model, x, y, groups = digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-3)
    norms = []

    def closure():
        norms.append(float(model.conv.weight.detach().norm()))
        optimizer.zero_grad()
        return backward(model, x, y)

    with RescaleOnDecay(model, optimizer, groups, x):
        before = float(model.conv.weight.detach().norm())
        optimizer.param_groups[0]["lr"] = 0.01
        loss = optimizer.step(closure)
    assert loss is not None
    assert norms == [pytest.approx(before * 10**-0.25, rel=1e-4)]


class Unheard(torch.optim.NAdam):
    """Its class name is not known, its state is."""


def bad_group(**changes) -> InvariantGroup:
    fields = {"kind": "scale", "cells": (), "numel": 9, "defect": 0.0}
    return InvariantGroup("weight", slices=(Slice("weight", 0, 0, 3),), **{**fields, **changes})


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (bad_group(defect=0.4), "has a defect of 0.4, above 0.1"),
        (bad_group(defect=math.nan), "nobody has proven"),
        (bad_group(kind="rescale"), "kind 'rescale'"),
        (InvariantGroup("b", "scale", (Slice("b", 0, 0, 3),), (), 9, 0.0), "does not have"),
    ],
)
def test_groups_that_are_not_invariant_are_refused(group, message):
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with pytest.raises(InvalidArgument, match=f"RescaleOnDecay.*{message}"):
        RescaleOnDecay(model, optimizer, [group])
    with RescaleOnDecay(model, optimizer, [model.group]):
        pass  # nothing was left attached


def test_other_bad_input_is_refused_with_a_remedy():
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with pytest.raises(InvalidArgument, match=r"threshold=.*>= 1, got 0.5"):
        RescaleOnDecay(model, optimizer, [model.group], threshold=0.5)
    elsewhere = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(InvalidArgument, match=r"'weight'.*stepped by none of the optimizers"):
        RescaleOnDecay(model, elsewhere, [model.group])
    scheduler = lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(InvalidArgument, match=r"expects a torch.optim.Optimizer, got StepLR"):
        RescaleOnDecay(model, scheduler, [model.group])  # pyright: ignore
    unheard = Unheard(model.parameters(), lr=0.1, weight_decay=1e-2)
    with pytest.raises(NoTheory, match=r"Pass factor=callable\(old, new\)"):
        RescaleOnDecay(model, unheard, [model.group])
    with RescaleOnDecay(model, unheard, [model.group], factor=lambda old, new: 0.5):
        norm = float(model.weight.detach().norm())
        unheard.param_groups[0]["lr"] = 0.01
        unheard.step()
        assert float(model.weight.detach().norm()) / norm == pytest.approx(0.5, rel=1e-2)
    net = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=1e-2)
    with pytest.raises(InvalidArgument, match=r"example_inputs=.*is needed"):
        RescaleOnDecay(net, optimizer, [whole("0.weight", net[0].weight)])


def two_norms(scale=0.3):
    """Two batch norms with the usual ε, a gain between them, and short weights."""
    torch.manual_seed(0)
    first, second = nn.Linear(16, 32, bias=False), nn.Linear(32, 32, bias=False)
    norms = nn.BatchNorm1d(32), nn.BatchNorm1d(32)
    net = nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), nn.Linear(32, 3))
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.mul_(scale)
    net, x = net.double(), torch.randn(64, 16, dtype=torch.float64)
    groups = smd.find_groups(net, x)
    for _ in range(50):
        net(x)
    return net, x, groups


def change_after(net, x, groups, k, **options):
    """Largest change of the outputs by lr / k, as a share, in eval mode and in training mode."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)

    def outputs():
        kept = {n: b.clone() for n, b in net.named_buffers()}
        found = net.eval()(x).detach(), net.train()(x).detach()
        net.load_state_dict(kept, strict=False)
        return found

    before = outputs()
    with RescaleOnDecay(net, optimizer, groups, x, **options):
        optimizer.param_groups[0]["lr"] /= k
        optimizer.step()
    pairs = zip(outputs(), before, strict=True)
    return [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]


@pytest.mark.parametrize("k", [100.0, 1e5])
def test_shortening_stops_before_the_norms_epsilon_counts(k, caplog):
    events = []
    net, x, groups = two_norms()
    changes = change_after(net, x, groups, k, on_event=lambda kind, **d: events.append((kind, d)))
    assert max(changes) < 0.04
    found = smd.find_groups(net, x)
    # Extrapolated over the chain of gain and weights to within a tenth.
    assert max(group.defect for group in found) == pytest.approx(0.01, rel=0.1)
    assert [kind for kind, _ in events] == ["rescaling_limited"]
    assert events[0][1]["groups"] == [group.name for group in groups]
    assert all(factor > 1.0 / math.sqrt(k) for factor in events[0][1]["factors"])
    said = caplog.text
    assert said.count("RescaleOnDecay leaves group '0' and 2 more longer than a factor") == 1

    net, x, groups = two_norms()
    assert max(change_after(net, x, groups, k, max_defect_after=None)) > 0.5


def test_a_limited_group_comes_back_to_where_it_was():
    net, x, groups = two_norms()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    with RescaleOnDecay(net, optimizer, groups, x):
        for factor in (1e-1, 1e-2, 10.0, 100.0):
            optimizer.param_groups[0]["lr"] *= factor
            optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-9, atol=1e-12)


def test_weak_groups_do_not_hold_back_the_others():
    model = Loose(4, 5)
    groups = [
        InvariantGroup(str(r), "scale", (Slice("weight", 0, r, r + 1),), (), 5, defect)
        for r, defect in enumerate([0.0, 1e-6, 0.0025, 0.05])
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    before = model.weight.detach().norm(dim=1)
    with RescaleOnDecay(model, optimizer, groups):
        optimizer.param_groups[0]["lr"] /= 100.0
        optimizer.step()
    c = equilibrium_norm_ratio(
        HyperParameters("adamw", lr=1e-2, weight_decay=0.1, momentum=0.9),
        HyperParameters("adamw", lr=1e-4, weight_decay=0.1, momentum=0.9),
    )
    factors = (model.weight.detach().norm(dim=1) / before).tolist()
    assert factors == pytest.approx([c, c, 0.5, 1.0])


def test_without_decay_there_is_nothing_to_do_and_that_is_said(caplog):
    model = Loose(3, 3)
    model.extra = nn.Parameter(torch.ones(3, 2))
    groups = [model.group, whole("extra", model.extra)]
    with pytest.raises(InvalidArgument, match=r"weight_decay must be > 0.*'weight', 'extra'"):
        RescaleOnDecay(model, torch.optim.SGD(model.parameters(), lr=0.1), groups)
    parts = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.extra]}]
    with RescaleOnDecay(model, torch.optim.SGD(parts, lr=0.1), groups):
        assert "leaves 'extra' as they are (1 of 2 groups)" in caplog.text


@pytest.mark.parametrize("made", ["before", "after"])
@pytest.mark.parametrize("saved", ["marked", "without"])
def test_a_checkpoint_without_its_own_state_is_not_rescaled_twice(made, saved):
    def fresh(lr=0.1):
        model = Loose(30, 30)
        return model, torch.optim.SGD(model.parameters(), lr=lr, weight_decay=1e-2)

    model, optimizer = fresh()
    rescale = RescaleOnDecay(model, optimizer, [model.group])
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    if saved == "without":
        rescale.close()
        assert "rescaled_for" not in optimizer.param_groups[0]
    checkpoint = model.state_dict(), optimizer.state_dict()
    checkpoint = torch.load(_through_file(checkpoint), weights_only=True)

    again, optimizer = fresh()
    if made == "before":
        rescale = RescaleOnDecay(again, optimizer, [again.group])
    again.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    if made == "after":
        rescale = RescaleOnDecay(again, optimizer, [again.group])
    optimizer.step()
    assert torch.equal(again.weight, checkpoint[0]["weight"])
    optimizer.param_groups[0]["lr"] = 0.001
    optimizer.step()
    ratio = float(again.weight.detach().norm() / checkpoint[0]["weight"].norm())
    assert ratio == pytest.approx(10**-0.25, rel=1e-3)
    rescale.close()


def test_a_drop_between_the_last_step_and_the_checkpoint_is_made_up_for():
    model = Loose(30, 30)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with RescaleOnDecay(model, optimizer, [model.group]):
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.01
        saved = optimizer.state_dict()
        with torch.no_grad():
            start = float(model.weight.norm())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-2)
    with RescaleOnDecay(model, optimizer, [model.group]):
        optimizer.load_state_dict(saved)
        optimizer.step()
    assert float(model.weight.detach().norm()) / start == pytest.approx(10**-0.25, rel=1e-3)


class Logged(torch.optim.AdamW):
    """Steps as its base does."""


def test_a_subclass_of_torchs_own_goes_by_its_base():
    model = Loose(30, 30)
    optimizer = Logged(model.parameters(), lr=1e-2, weight_decay=0.1)
    with RescaleOnDecay(model, optimizer, [model.group]):
        norm = float(model.weight.detach().norm())
        optimizer.param_groups[0]["lr"] = 1e-4
        optimizer.step()
    assert float(model.weight.detach().norm()) / norm == pytest.approx(0.1, rel=0.01)
    unheard = Unheard(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(NoTheory, match="RescaleOnDecay, Unheard: "):
        RescaleOnDecay(model, unheard, [model.group])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_rate_that_is_not_finite_is_refused(value):
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    with RescaleOnDecay(model, optimizer, [model.group]):
        optimizer.param_groups[0]["lr"] = value
        with pytest.raises(InvalidArgument, match=r"lr of param_groups\[0\] must be finite"):
            optimizer.step()
    with pytest.raises(InvalidArgument, match=r"lr of param_groups\[0\] must be finite"):
        RescaleOnDecay(model, optimizer, [model.group])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 3.0}, r"factor=.*must be callable"),
        ({"on_event": 5}, r"on_event=.*must be callable"),
        ({"threshold": "2"}, r"threshold=.*must be finite and >= 1, got '2'"),
        ({"max_defect": "0.1"}, r"max_defect=.*number >= 0 or None"),
        (
            {"max_defect_after": 0.0},
            r"max_defect_after=.*must be finite and > 0, got 0.0.*None allows any",
        ),
        ({"groups": None}, "expects at least one group"),
        ({"groups": ["0"]}, "expects invariant groups, got '0'"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(options, message):
    model = Loose(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=f"RescaleOnDecay.*{message}"):
        RescaleOnDecay(model, optimizer, **{"groups": [model.group], **options})
    with RescaleOnDecay(model, optimizer, [model.group]) as rescale:
        for state in ({}, None):
            with pytest.raises(InvalidArgument, match="'reference', 'fallen' is missing"):
                rescale.load_state_dict(state)


def test_an_inspection_is_as_good_as_its_groups():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    with RescaleOnDecay(net, optimizer, smd.inspect_model(net, torch.randn(8, 4))) as rescale:
        assert rescale.members.names == ("0",)
