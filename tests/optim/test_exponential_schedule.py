"""The run at growing rates without decay is the run with decay, on networks, step by step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from spherical_motion import theory
from spherical_motion.errors import AlreadyAttached, InvalidArgument, NoTheory, OutOfDomain
from spherical_motion.invariance import find_groups
from spherical_motion.monitor import Monitor
from spherical_motion.optim import ExponentialSchedule, split_param_groups
from spherical_motion.records import read
from spherical_motion.vocabulary import InvariantGroup, Slice

DECAY, MOMENTUM = 5e-3, 0.9


class Conv(nn.Module):
    """Two convolutions with batch norm without gain and a fixed head: all trained is invariant."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4, eps=eps, affine=False)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4, eps=eps, affine=False)
        self.head = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.bn1(self.conv1(x)))
        return self.head(torch.tanh(self.bn2(self.conv2(x))).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """One block: attention and MLP matrices in front of norms are invariant, the rest is not."""

    def __init__(self, eps: float, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width, bias=False)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(width, eps=eps)
        self.k_norm = nn.RMSNorm(width, eps=eps)
        self.v_norm = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, 2 * width)
        self.up_norm = nn.LayerNorm(2 * width, eps=eps)
        self.head = nn.Linear(2 * width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(x))
        q, k = self.q_norm(self.q(x)), self.k_norm(self.k(x))
        weights = F.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), dim=2)
        x = x + self.v_norm(weights @ self.v(x))
        return self.head(torch.tanh(self.up_norm(self.up(x)))).mean(dim=1)


INPUTS: dict[type[nn.Module], tuple[int, ...]] = {Conv: (8, 1, 4, 4), Transformer: (32, 3, 8)}
RATES: dict[type[nn.Module], float] = {Conv: 0.05, Transformer: 0.02}


def batches(kind: type[nn.Module], steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Labels that can be learnt: a signal to follow keeps the path from being chaotic."""
    generator = torch.Generator().manual_seed(1)
    shape = INPUTS[kind]
    teacher = torch.randn(math.prod(shape[1:]), 3, generator=generator, dtype=torch.float64)
    for _ in range(steps):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        yield x, (x.flatten(1) @ teacher).argmax(dim=1)


def build(kind: type[nn.Module], eps: float) -> tuple[nn.Module, list[InvariantGroup], list[dict]]:
    torch.manual_seed(0)
    model = kind(eps).double()
    groups = find_groups(model, torch.randn(INPUTS[kind], dtype=torch.float64))
    trained = [p for p in model.parameters() if p.requires_grad]
    split = split_param_groups(model, groups, trained, lr=RATES[kind], weight_decay=DECAY)
    return model, list(groups), split


MakeScheduler = Callable[[torch.optim.Optimizer, int], Any]


def warmup_drops_cosine(optimizer: torch.optim.Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """From rate 0 up, three drops, and a cosine to 0 at the end."""
    part = steps // 6

    def factor(step: int) -> float:
        if step < part // 2:
            return step / (part // 2)
        if step < 4 * part:
            return 0.3 ** (step // part)
        return 0.3**3 * (1.0 + math.cos(math.pi * (step - 4 * part) / (2 * part))) / 2.0

    return lr_scheduler.LambdaLR(optimizer, factor)


def train(
    kind: type[nn.Module],
    steps: int,
    make: MakeScheduler,
    *,
    undecayed: bool,
    eps: float = 1e-30,
    nudge: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, nn.Module, Any]:
    """Directions of the invariant parameters after each step in one row, the model, the schedule.

    `nudge` moves the start by that share of itself.
    """
    model, groups, split = build(kind, eps)
    optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
    schedule: Any = make(optimizer, steps)
    if undecayed:
        batch = next(batches(kind, 1))[0]
        schedule = ExponentialSchedule(
            model, optimizer, groups, schedule, example_inputs=batch, **options
        )
    watched = split[0]["params"]
    with torch.no_grad():
        watched[0].mul_(1.0 + nudge * torch.randn_like(watched[0]))
    path = []
    for x, y in batches(kind, steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if isinstance(getattr(schedule, "scheduler", schedule), lr_scheduler.ReduceLROnPlateau):
            schedule.step(1.0)
        else:
            schedule.step()
        units = [(w / w.norm().clamp_min(1e-300)).detach().flatten() for w in watched]
        path.append(torch.cat(units))
    return torch.stack(path), model, schedule


def angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """An upper bound, by step, of the angle between any parameter's directions (if small)."""
    return (a - b).norm(dim=1)


@pytest.mark.parametrize("kind", [Conv, Transformer])
@pytest.mark.parametrize("steps", [600, pytest.param(3000, marks=pytest.mark.slow)])
def test_the_same_networks_at_every_step(kind: type[nn.Module], steps: int) -> None:
    """Warm-up from 0, three drops, a cosine to 0; most of the way on a path that is not chaotic."""
    plain, model, _ = train(kind, steps, warmup_drops_cosine, undecayed=False)
    grown, other, schedule = train(kind, steps, warmup_drops_cosine, undecayed=True, largest=2.0)
    assert angles(plain, grown).max() < 1e-10
    nudged, _, _ = train(kind, steps, warmup_drops_cosine, undecayed=False, nudge=1e-15)
    assert angles(plain, nudged).max() < 1e-10  # not chaotic
    assert angles(plain[:1], plain[-1:]) > 0.3  # and it went somewhere
    # What is not invariant went the same way at its own rate and decay, and eval mode agrees.
    for a, b in zip(model.eval().parameters(), other.eval().parameters(), strict=True):
        if a.requires_grad:
            torch.testing.assert_close(a / a.norm(), b / b.norm(), rtol=0, atol=1e-10)
    offline = torch.optim.SGD([torch.zeros(1)], lr=RATES[kind])
    lrs, inner = [], warmup_drops_cosine(offline, steps)
    for _ in range(steps):
        lrs.append(inner.get_last_lr()[0])
        offline.step()
        inner.step()
    reference = theory.exponential_schedule([lr or 1e-300 for lr in lrs], DECAY, MOMENTUM)
    assert schedule.log_scales[0] == pytest.approx(reference.final_log_scale, rel=1e-12)


SCHEDULERS: dict[str, MakeScheduler] = {
    "step": lambda o, n: lr_scheduler.StepLR(o, n // 3),
    "cosine": lambda o, n: lr_scheduler.CosineAnnealingLR(o, n),
    "restarts": lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, n // 3),
    # The momentum moves too.
    "one cycle": lambda o, n: lr_scheduler.OneCycleLR(o, max_lr=0.05, total_steps=n + 1),
    "sequential": lambda o, n: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=9), lr_scheduler.ExponentialLR(o, 0.99)],
        [n // 4],
    ),
    "chained": lambda o, n: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 20), lr_scheduler.ExponentialLR(o, 0.99)]
    ),
    "plateau": lambda o, n: lr_scheduler.ReduceLROnPlateau(o, patience=20),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler_is_translated(name: str) -> None:
    plain, _, inner = train(Conv, 90, SCHEDULERS[name], undecayed=False)
    grown, _, schedule = train(Conv, 90, SCHEDULERS[name], undecayed=True, largest=2.0)
    assert angles(plain, grown).max() < 1e-11
    assert angles(plain[:1], plain[-1:]) > 0.05
    assert schedule.log_scales[0] > 0.02
    assert schedule.scheduler.get_last_lr() == inner.get_last_lr()


def constant(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def test_growth_follows_the_steps_and_not_the_scheduler() -> None:
    """A scheduler stepped every tenth step, and steps that are left out."""
    directions = []
    for undecayed in (False, True):
        model, groups, split = build(Conv, 1e-30)
        optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
        schedule: Any = lr_scheduler.ExponentialLR(optimizer, 0.7)
        if undecayed:
            batch = next(batches(Conv, 1))[0]
            schedule = ExponentialSchedule(
                model, optimizer, groups, schedule, example_inputs=batch, largest=2.0
            )
        for step, (x, y) in enumerate(batches(Conv, 100)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if step % 7:
                optimizer.step()
            if step % 10 == 9:
                schedule.step()
        directions.append(torch.cat([(w / w.norm()).flatten() for w in split[0]["params"]]))
    torch.testing.assert_close(*directions, rtol=0, atol=1e-12)


def test_a_parameter_without_a_gradient_at_times_stays_with_the_others() -> None:
    directions = []
    for undecayed in (False, True):
        model, groups, split = build(Conv, 1e-30)
        optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
        schedule = None
        if undecayed:
            batch = next(batches(Conv, 1))[0]
            schedule = ExponentialSchedule(
                model, optimizer, groups, example_inputs=batch, largest=2.0
            )
        for step, (x, y) in enumerate(batches(Conv, 300)):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            if step < 20 or step % 3 == 0:
                split[0]["params"][1].grad = None
            if step % 50 == 49:
                split[0]["params"][0].grad = split[0]["params"][1].grad = None
            optimizer.step()
        if schedule is not None:
            assert len({w.grad is None for w in split[0]["params"]}) == 1
            schedule.return_to_weight_decay()
        directions.append(torch.cat([w.detach().flatten() for w in split[0]["params"]]))
    torch.testing.assert_close(*directions, rtol=1e-11, atol=1e-13)


class Direction(nn.Module):
    """Rows that are pulled towards targets: decay this strong would make a deeper net chaotic."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4, bias=False)

    def forward(self, targets: torch.Tensor) -> torch.Tensor:
        return -(F.normalize(self.fc.weight, dim=1, eps=1e-30) * targets).sum()


def test_past_the_overflow_the_run_goes_on_and_without_recentring_it_cannot() -> None:
    """At lr 1, weight decay 0.1 and no momentum float32's range ends after some 420 steps."""
    lr, decay = 1.0, 0.1
    last = theory.steps_to_overflow(lr, decay, 0.0)
    assert 400 < last < 450
    generator = torch.Generator().manual_seed(2)
    targets = 1.0 + 0.3 * torch.randn(last + 60, 4, 8, generator=generator)
    rates = theory.exponential_schedule([lr] * (last + 60), decay, 0.0).lrs

    def run(kind: str) -> torch.Tensor:
        torch.manual_seed(0)
        model, events = Direction(), []
        optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, weight_decay=0.0 if kind == "raw" else decay
        )
        if kind in ("recentred", "bare"):
            group = hand_made(model, "fc.weight")
            ExponentialSchedule(
                model,
                optimizer,
                [group],
                largest=16.0 if kind == "recentred" else math.inf,
                on_event=lambda event, factor, **_: events.append(factor),
            )
        path = []
        for step, target in enumerate(targets):
            if kind == "raw":
                optimizer.param_groups[0]["lr"] = float(rates[step])
            optimizer.zero_grad()
            model(target).backward()
            optimizer.step()
            path.append(F.normalize(model.fc.weight.detach(), dim=1, eps=1e-30))
        assert kind != "recentred" or (len(events) > 10 and set(events) == {2.0**-4})
        return torch.stack(path)

    decayed = run("decayed")
    assert (decayed[-1] - decayed[-2]).norm(dim=1).min() > 0.05  # it moves on
    torch.testing.assert_close(run("recentred"), decayed, rtol=0, atol=2e-5)
    with pytest.raises(OutOfDomain, match=r"leave the range.*finite largest"):
        run("bare")
    with pytest.raises(RuntimeError, match="overflow"):  # torch's own, of the bare rates
        run("raw")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_recentring_rounds_nothing(dtype: torch.dtype) -> None:
    """Re-centred often or seldom, the same bits, statistics and momentum included."""
    states = []
    for largest in (2.0, 4.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LayerNorm(6, eps=1e-30)).to(dtype)
        model[1].requires_grad_(False)
        group = find_groups(nn.Sequential(model[0], model[1]).double(), torch.randn(8, 4).double())
        model.to(dtype)
        split = split_param_groups(model, group, lr=2.0**-5, weight_decay=0.25)
        optimizer = torch.optim.SGD([split[0]], momentum=0.5)
        schedule = ExponentialSchedule(model, optimizer, group, largest=largest)
        generator = torch.Generator().manual_seed(0)
        for _ in range(200):
            optimizer.zero_grad()
            # A gradient made by hand, homogeneous of degree -1 to the bit.
            w = model[0].weight.detach()
            unit = torch.randn(w.shape, generator=generator).to(dtype)
            model[0].weight.grad = unit / 2.0 ** (w.float().norm().log2().floor())
            optimizer.step()
        growth = schedule._steered[0].growth
        assert growth.bits >= 1
        states.append(model[0].weight.double() * 2.0**growth.bits)
    assert torch.equal(*states)


def test_evaluation_is_that_of_the_decayed_run_also_right_after_recentring() -> None:
    """Batch norm's running statistics are re-centred; what is left is their lag behind growth."""
    _, plain, _ = train(Conv, 300, constant, undecayed=False)
    events: list[int] = []
    _, grown, schedule = train(
        Conv, 300, constant, undecayed=True, largest=2.0, on_event=lambda *_, **k: events.append(1)
    )
    assert len(events) >= 1
    ratio = grown.bn1.running_var / plain.bn1.running_var / schedule._steered[0].growth.scale ** 2
    # The average of the last 1/0.1 steps, over which the variance grew as the rate does.
    rise = theory.growth_rate(RATES[Conv], DECAY, MOMENTUM)
    lag = 0.1 / (1 - 0.9 / rise) / rise
    torch.testing.assert_close(ratio, torch.full_like(ratio, lag), rtol=6e-3, atol=0)
    x = next(batches(Conv, 1))[0]
    a, b = plain.eval()(x), grown.eval()(x)
    assert 1e-4 < (a - b).abs().max() / a.abs().max() < 0.1


def test_back_to_weight_decay_to_the_last_digits() -> None:
    """Half the way without decay, the other half with it: the decayed run, momentum included."""
    model, groups, split = build(Conv, 1e-30)
    optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 200)
    schedule = ExponentialSchedule(
        model, optimizer, groups, scheduler, example_inputs=next(batches(Conv, 1))[0], largest=2.0
    )
    for step, (x, y) in enumerate(batches(Conv, 200)):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        (schedule if step < 150 else scheduler).step()
        if step == 149:
            schedule.return_to_weight_decay()
    _, plain, _ = train(
        Conv, 200, lambda o, n: lr_scheduler.CosineAnnealingLR(o, 200), undecayed=False
    )
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)
    assert optimizer.param_groups[0]["weight_decay"] == DECAY


def returned_halfway(how: str) -> torch.Tensor:
    """Weights after 30 steps with decay behind 20 without, the way back taken in some manner."""
    model, groups, split = build(Conv, 1e-30)
    optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 50)
    data = list(batches(Conv, 50))
    schedule = ExponentialSchedule(model, optimizer, groups, scheduler, example_inputs=data[0][0])
    for step, (x, y) in enumerate(data):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if step == 20 and how == "gradients pending":
            schedule.return_to_weight_decay()
        optimizer.step()
        schedule.step()
        if step == 19 and how != "gradients pending":
            if how == "closed first":
                schedule.close()
            schedule.return_to_weight_decay()
            if how == "twice":
                schedule.return_to_weight_decay()
                schedule.close()
    assert optimizer.param_groups[0]["weight_decay"] == DECAY
    assert schedule.get_last_lr() == scheduler.get_last_lr()
    return torch.cat([w.detach().flatten() for w in split[0]["params"]])


@pytest.mark.parametrize("how", ["once", "twice", "gradients pending", "closed first"])
def test_the_way_back_is_one_and_the_loop_may_go_on(how: str) -> None:
    """The user's loop keeps stepping the schedule: rates and decay are the decayed run's."""
    _, plain, _ = train(
        Conv, 50, lambda o, n: lr_scheduler.CosineAnnealingLR(o, 50), undecayed=False
    )
    expected = [p.detach().flatten() for p in plain.parameters() if p.requires_grad]
    torch.testing.assert_close(returned_halfway(how), torch.cat(expected), rtol=1e-11, atol=1e-13)


def test_a_run_that_returned_is_resumed_as_one(tmp_path: Path) -> None:
    """In either order: the rate is the one that the optimizer's state brings."""

    def start() -> list[Any]:
        torch.manual_seed(0)
        model, optimizer, groups = tiny()
        inner = lr_scheduler.StepLR(optimizer, 2, 0.5)
        return [model, optimizer, ExponentialSchedule(model, optimizer, groups, inner)]

    parts = start()
    for step in range(5):
        stepped(parts[0], parts[1])
        parts[2].step()
        if step == 1:
            parts[2].return_to_weight_decay()
    stored = [part.state_dict() for part in parts]
    for order in ((0, 1, 2), (2, 1, 0)):
        again = start()
        for i in order:
            again[i].load_state_dict(stored[i])
        assert again[1].param_groups[0]["lr"] == parts[1].param_groups[0]["lr"] == 0.025
        assert again[1].param_groups[0]["weight_decay"] == 0.01
        stepped(again[0], again[1])
        again[2].step()
        assert again[1].param_groups[0]["lr"] == 0.0125


def test_a_scheduler_made_after_the_way_back_starts_from_the_rates_of_then() -> None:
    model, optimizer, groups = tiny()
    schedule = ExponentialSchedule(model, optimizer, groups)
    assert "initial_lr" not in optimizer.param_groups[0]
    stepped(model, optimizer)
    schedule.return_to_weight_decay()
    optimizer.param_groups[0]["lr"] = 0.03
    assert lr_scheduler.CosineAnnealingLR(optimizer, 10).base_lrs[0] == 0.03


def test_step_passes_on_whatever_the_wrapped_scheduler_takes() -> None:
    class Counting(lr_scheduler.ConstantLR):
        def step(self, *seen: object, **named: object) -> None:
            self.seen = (seen, named)
            super().step()

    model, optimizer, groups = tiny()
    inner = Counting(optimizer)
    schedule = ExponentialSchedule(model, optimizer, groups, inner)
    stepped(model, optimizer)
    schedule.step(1.0, loss=2.0)
    assert inner.seen == ((1.0,), {"loss": 2.0})


def test_a_way_back_that_is_refused_changes_nothing() -> None:
    model, optimizer, groups = tiny()
    schedule = ExponentialSchedule(model, optimizer, groups)
    stepped(model, optimizer)
    before = model[0].weight.detach().clone()
    optimizer.state[model[0].weight]["mystery"] = torch.ones(4, 4)
    with pytest.raises(NoTheory, match="'mystery'"):
        schedule.return_to_weight_decay()
    assert torch.equal(model[0].weight, before)
    del optimizer.state[model[0].weight]["mystery"]
    schedule.return_to_weight_decay()
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_after_close_nothing_is_scheduled_and_nothing_grows_from_there() -> None:
    model, optimizer, groups = tiny()
    with ExponentialSchedule(model, optimizer, groups) as schedule:
        stepped(model, optimizer)
        schedule.step()
    rate = optimizer.param_groups[0]["lr"]
    assert rate > 0.1
    with pytest.raises(InvalidArgument, match=r"after close\(\).*return_to_weight_decay"):
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == rate
    with pytest.raises(InvalidArgument, match=r"earlier ExponentialSchedule .*lr 0\.1\)"):
        ExponentialSchedule(model, optimizer, groups)
    with pytest.raises(InvalidArgument, match="no longer steers its optimizer"):
        schedule.load_state_dict(schedule.state_dict())
    # The mark outlives the process.
    other = torch.optim.SGD([model[0].weight], lr=0.1, momentum=0.9)
    other.load_state_dict(optimizer.state_dict())
    with pytest.raises(InvalidArgument, match="earlier ExponentialSchedule"):
        ExponentialSchedule(model, other, groups)
    schedule.return_to_weight_decay()
    assert optimizer.param_groups[0]["lr"] == 0.1
    ExponentialSchedule(model, optimizer, groups)


def test_a_refused_construction_leaves_every_setting() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    groups = [hand_made(model), hand_made(model, "1.weight")]
    kept = [
        {"params": [layer.weight], "weight_decay": d}
        for layer, d in zip(model, (0.1, 15.0), strict=True)
    ]
    optimizer = torch.optim.SGD(kept, lr=0.1)
    with pytest.raises(OutOfDomain, match="α_t must be > 0"):
        ExponentialSchedule(model, optimizer, groups)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 15.0]
    optimizer.param_groups[1]["weight_decay"] = 0.1
    ExponentialSchedule(model, optimizer, groups)


def test_epsilon_parts_the_runs_and_by_how_much_the_weights_have_grown() -> None:
    """The norm layer's epsilon counts less for longer weights: the gap goes with epsilon."""
    gaps = []
    for eps in (1e-7, 1e-6, 1e-5):
        plain, _, _ = train(Conv, 300, constant, undecayed=False, eps=eps)
        grown, _, _ = train(Conv, 300, constant, undecayed=True, eps=eps)
        gaps.append(float(angles(plain, grown)[-1]))
    slope = (math.log(gaps[2]) - math.log(gaps[0])) / math.log(100.0)
    assert slope == pytest.approx(1.0, abs=0.05)
    assert 1e-8 < gaps[2] < 1e-2
    # And from one end of a run to the other it grows, as the weights do.
    grown_gap = angles(plain, grown)
    assert grown_gap[-1] > 5 * grown_gap[30]


def test_the_growth_of_an_epoch() -> None:
    """ResNet-32 of the paper's figure 1: lr 0.1, weight decay 5e-4, 391 steps an epoch."""
    weight = nn.Parameter(torch.ones(4, 4))
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    model[0].weight = weight
    group = hand_made(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = ExponentialSchedule(model, optimizer, [group])
    rates = []
    for _ in range(3 * 391 + 1):
        weight.grad = torch.zeros(4, 4)
        optimizer.step()
        rates.append(math.log(optimizer.param_groups[0]["lr"]))
        bits = schedule._steered[0].growth.bits
        rates[-1] += 2 * bits * math.log(2.0)
    assert math.exp(rates[-1] - rates[-392]) == pytest.approx(1.481, abs=5e-4)
    reference = theory.exponential_schedule([0.1] * len(rates), 5e-4, 0.9)
    torch.testing.assert_close(
        torch.tensor(rates, dtype=torch.float64), torch.from_numpy(reference.log_lrs)
    )


def test_a_monitor_sees_the_angles_of_the_decayed_run(tmp_path: Path) -> None:
    """Attached before or after, re-centring falls outside the steps it measures."""
    angles = []
    for undecayed, first in ((False, True), (True, True), (True, False)):
        model, groups, split = build(Conv, 1e-30)
        optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
        data, directory = list(batches(Conv, 330)), tmp_path / f"{undecayed}{first}"
        schedule: list[ExponentialSchedule] = []
        monitor = None
        for attach_monitor in (first, not first):
            if attach_monitor:
                monitor = Monitor(model, optimizer, groups, directory, quiet=True)
            elif undecayed:
                options = {"example_inputs": data[0][0], "largest": 2.0}
                on_event = None if monitor is None else monitor.event
                schedule = [
                    ExponentialSchedule(model, optimizer, groups, on_event=on_event, **options)
                ]
        assert monitor is not None
        for x, y in data:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        monitor.close()
        assert not undecayed or schedule[0]._steered[0].growth.bits >= 1
        angles.append(read(directory).angle())
    for grown in angles[1:]:
        np.testing.assert_allclose(grown, angles[0], rtol=1e-9)


# Living with torch


def hand_made(model: nn.Module, name: str = "0.weight", stop: int = 4) -> InvariantGroup:
    piece = Slice(name, 0, 0, stop)
    return InvariantGroup("made", "scale", (piece,), ((piece,),), 4 * stop, defect=0.0)


def test_saved_and_loaded_in_the_middle_it_ends_the_same(tmp_path: Path) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, ExponentialSchedule]:
        model, groups, split = build(Conv, 1e-5)
        optimizer = torch.optim.SGD(split, momentum=MOMENTUM)
        inner = lr_scheduler.CosineAnnealingLR(optimizer, 60)
        batch = next(batches(Conv, 1))[0]
        return (
            model,
            optimizer,
            ExponentialSchedule(model, optimizer, groups, inner, example_inputs=batch, largest=2.0),
        )

    data = list(batches(Conv, 60))

    def go(model: nn.Module, optimizer: Any, schedule: Any, part: list) -> None:
        for x, y in part:

            def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)
            schedule.step()

    whole = start()
    go(*whole, data)
    half = start()
    go(*half, data[:37])
    torch.save([part.state_dict() for part in half], tmp_path / "half.pt")
    again = start()
    stored = torch.load(tmp_path / "half.pt", weights_only=True)
    for part, state in zip(again, stored, strict=True):
        part.load_state_dict(state)
    go(*again, data[37:])
    for a, b in zip(whole[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole[2].get_last_lr() == again[2].get_last_lr()
    assert whole[2].last_epoch == again[2].last_epoch == 60
    assert isinstance(whole[2], lr_scheduler.LRScheduler)


def tiny(**settings: Any) -> tuple[nn.Module, torch.optim.Optimizer, list[InvariantGroup]]:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4))
    arguments = {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9} | settings
    return model, torch.optim.SGD([model[0].weight], **arguments), [hand_made(model)]


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


def test_refusals() -> None:
    model, optimizer, groups = tiny()
    _, other, _ = tiny()
    with pytest.raises(InvalidArgument, match=r"StepLR attached to another one"):
        ExponentialSchedule(model, optimizer, groups, lr_scheduler.StepLR(other, 5))
    for bad in (1.0, math.nan, -math.inf, "16"):
        with pytest.raises(InvalidArgument, match=r"largest=\.\.\.\) must be "):
            ExponentialSchedule(model, optimizer, groups, largest=bad)
    with pytest.raises(InvalidArgument, match=r"on_event=\.\.\.\) must be callable.*got 5"):
        ExponentialSchedule(model, optimizer, groups, on_event=5)
    adam = torch.optim.AdamW(model.parameters())
    with pytest.raises(NoTheory, match=r"theorem about SGD .* not about AdamW"):
        ExponentialSchedule(model, adam, groups)
    nesterov = tiny(nesterov=True)
    with pytest.raises(NoTheory, match="nesterov=False"):
        ExponentialSchedule(*nesterov)
    with pytest.raises(InvalidArgument, match=r"dampening must be 0, got 0\.5"):
        ExponentialSchedule(*tiny(dampening=0.5))
    with pytest.raises(OutOfDomain, match=r"α_t must be > 0.*0\.002633, here 1\.5.*Lower"):
        ExponentialSchedule(*tiny(weight_decay=15.0))
    everything = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    with pytest.raises(InvalidArgument, match=r"2 of 3 that are not, first '1\.weight'.*split"):
        ExponentialSchedule(model, everything, groups)
    bad = [dataclasses.replace(groups[0], defect=0.3)]
    with pytest.raises(InvalidArgument, match=r"nothing to steer.*defect of 0\.3"):
        ExponentialSchedule(model, optimizer, bad)
    optimizer.param_groups[0]["invariant"] = True
    with pytest.raises(
        InvalidArgument, match=r"split off as scale-inv.*defect of 0\.3, above 0\.1"
    ):
        ExponentialSchedule(model, optimizer, bad)
    norm = nn.Sequential(model[0], nn.BatchNorm1d(4))
    with pytest.raises(InvalidArgument, match=r"Pass example_inputs"):
        ExponentialSchedule(norm, optimizer, groups)
    ExponentialSchedule(model, optimizer, groups)
    with pytest.raises(AlreadyAttached):
        ExponentialSchedule(model, optimizer, groups)


def test_strong_decay_is_found_out_at_the_step_it_comes_to() -> None:
    """Settings that do well for a while: the buffer's share adds up."""
    model, optimizer, groups = tiny(weight_decay=0.05, momentum=0.99)
    schedule = ExponentialSchedule(model, optimizer, groups)

    def train_on(steps: int) -> None:
        for _ in range(steps):
            stepped(model, optimizer)
            schedule.step()

    train_on(5)
    with pytest.raises(OutOfDomain, match=r"α_t must be > 0.*Lower the weight decay or the mom"):
        train_on(500)
    model, optimizer, groups = tiny(lr=1e-4, weight_decay=1.0)
    steep = lr_scheduler.LambdaLR(optimizer, lambda step: 1e4 if step >= 40 else 1.0)
    schedule = ExponentialSchedule(model, optimizer, groups, steep)
    train_on(39)
    with pytest.raises(OutOfDomain, match=r"Lower the weight decay"):
        train_on(1)


def test_a_single_step_too_large_for_the_dtype() -> None:
    """α just above 0 makes the weights grow a thousandfold at once."""
    model, optimizer, groups = tiny(lr=1.0, weight_decay=1.0 - 2.0**-10, momentum=0.0)
    model.half()
    with pytest.raises(OutOfDomain, match=r"Re-centring cannot cure .* 1\.02e\+03 times.*float32"):
        ExponentialSchedule(model, optimizer, groups)


def test_settings_changed_behind_its_back() -> None:
    model, optimizer, groups = tiny()
    inner = lr_scheduler.StepLR(optimizer, 1)
    schedule = ExponentialSchedule(model, optimizer, groups, inner)
    stepped(model, optimizer)
    inner.step()
    with pytest.raises(InvalidArgument, match=r"changed from outside.*not the wrapped scheduler"):
        stepped(model, optimizer)
    schedule.close()
    stepped(model, optimizer)
    for bad in ({}, None, {"scheduler": None}):
        with pytest.raises(InvalidArgument, match=r"state_dict\(\) returned, with 'scheduler'"):
            schedule.load_state_dict(bad)
    without = {"scheduler": None, "steered": schedule.state_dict()["steered"]}
    with pytest.raises(InvalidArgument, match=r"with a scheduler, got one without"):
        schedule.load_state_dict(without)
    with pytest.raises(InvalidArgument, match=r"param groups \[0\], got one that steered \[7\]"):
        schedule.load_state_dict({"scheduler": None, "steered": [{"index": 7}]})
