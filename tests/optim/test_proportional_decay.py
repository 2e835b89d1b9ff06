"""Decay in proportion to the rate keeps the resting norm; the angle follows the rate at once."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from spherical_motion import theory
from spherical_motion.errors import AlreadyAttached, InvalidArgument
from spherical_motion.optim import ProportionalDecay, split_param_groups
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice

GIVEN = {"unit_grad_sq": 3.0, "numel": 50, "unit_grad_rms": 0.3, "correlation": 5, "update_sq": 50}
FAMILIES = {
    "sgd": HyperParameters("sgd", lr=0.1, weight_decay=1e-3),
    "sgdm": HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9),
    "nesterov": HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9, nesterov=True),
    "decoupled": HyperParameters("sgd", lr=0.1, weight_decay=1e-3, momentum=0.9, decoupled=True),
    "adam": HyperParameters("adam", lr=1e-3, weight_decay=1e-3, betas=(0.9, 0.999)),
    "adamw": HyperParameters("adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.999)),
    "lion": HyperParameters("lion", lr=1e-4, weight_decay=1.0, betas=(0.9, 0.99)),
    "muon": HyperParameters("muon", lr=1e-2, weight_decay=0.01, momentum=0.95),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("drop", [0.5, 0.01])
def test_in_every_family_the_norm_stays_and_the_angle_goes_with_the_rate(name, drop) -> None:
    full = FAMILIES[name]
    low = dataclasses.replace(full, lr=full.lr * drop, weight_decay=full.weight_decay * drop)
    norms = [theory.equilibrium_norm_approx(hp, **GIVEN) for hp in (full, low)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    angles = [theory.equilibrium_angle_approx(hp, **GIVEN) for hp in (full, low)]
    assert angles[1] == pytest.approx(angles[0] * drop, rel=1e-3)


def problem(kind: type[torch.optim.Optimizer], **settings: float):
    """One matrix whose gradient is noise, tangential and homogeneous of degree -1."""
    model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.LayerNorm(32))
    piece = Slice("0.weight", 0, 0, 32)
    group = InvariantGroup("0", "scale", (piece,), ((piece,),), 2048, defect=0.0)
    split = split_param_groups(model, [group], **settings)
    return model, kind(split), [group]


def run(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, scheduler=None):
    """Norms and angles of each step."""
    generator = torch.Generator().manual_seed(0)
    weight = model[0].weight
    norms, angles = [], []
    for _ in range(steps):
        noise = torch.randn(weight.shape, generator=generator)
        w = weight.detach().clone()
        noise -= (noise * w).sum() / w.square().sum() * w
        weight.grad = noise / w.norm()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        d = weight.detach() - w
        across = d - (d * w).sum() / w.square().sum() * w
        angles.append(math.atan2(across.norm(), float(w.norm() + (d * w).sum() / w.norm())))
        norms.append(float(w.norm()))
    return torch.tensor(norms), torch.tensor(angles)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.05, "momentum": 0.5}),
        (torch.optim.AdamW, {"lr": 5e-3, "weight_decay": 1.0}),
    ],
)
def test_a_drop_leaves_the_norm_where_it_is(kind, settings) -> None:
    ends = {}
    for proportional in (False, True):
        model, optimizer, groups = problem(kind, **settings)
        norms, angles = run(model, optimizer, 600)
        scheduler = lr_scheduler.MultiStepLR(optimizer, [1])
        if proportional:
            ProportionalDecay(model, optimizer, groups)
        after_norms, after_angles = run(model, optimizer, 60, scheduler)
        rested, turned = norms[-100:].mean(), angles[-100:].mean()
        ends[proportional] = (after_norms[-1] / rested, after_angles[20:].mean() / turned)
    assert ends[True][0] == pytest.approx(1.0, abs=0.03)
    assert ends[True][1] == pytest.approx(0.1, rel=0.1)  # Δ* ∝ lr, at once
    assert ends[False][0] < ends[True][0]  # on its way to a shorter norm
    assert ends[False][1] > 0  # and to Δ* ∝ √lr, which 60 steps do not reach


@pytest.mark.parametrize(
    ("make", "peak"),
    [
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 20), 0.1),
        (lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.4, total_steps=20), 0.4),
        (lambda o: lr_scheduler.LinearLR(o, 0.01, total_iters=10), 0.1),
    ],
)
def test_decay_follows_the_rate_of_any_scheduler(make, peak: float) -> None:
    model, optimizer, groups = problem(torch.optim.SGD, lr=0.1, weight_decay=0.02, momentum=0.5)
    scheduler = make(optimizer)
    decay = ProportionalDecay(model, optimizer, groups)
    invariant, others = optimizer.param_groups
    for _ in range(15):
        rate = invariant["lr"]
        model[0].weight.grad = torch.zeros_like(model[0].weight)
        optimizer.step()
        assert invariant["weight_decay"] == pytest.approx(0.02 * rate / peak, rel=1e-12)
        assert others["weight_decay"] == 0.02
        scheduler.step()
    stored = decay.state_dict()
    decay.close()
    decay.close()
    assert invariant["weight_decay"] == 0.02
    again = ProportionalDecay(model, optimizer, groups, lr_max=7.0)
    again.load_state_dict(stored)
    optimizer.step()
    assert invariant["weight_decay"] == pytest.approx(0.02 * invariant["lr"] / peak, rel=1e-12)


def paced(optimizer: torch.optim.Optimizer, steps: int, scheduler=None) -> list[float]:
    """Steps without gradients; the decays that they were taken with."""
    decays = []
    for _ in range(steps):
        optimizer.step()
        decays.append(optimizer.param_groups[0]["weight_decay"])
        if scheduler is not None:
            scheduler.step()
    return decays


def noam(step: int) -> float:
    return 512**-0.5 * min((step + 1) ** -0.5, (step + 1) * 4000**-1.5)


@pytest.mark.parametrize(
    ("factor", "steps", "said_at", "why"),
    [
        (noam, 150, 100, "in 100 steps the rate never was above 1.75e-05"),
        (lambda step: 0.3 * 0.99**step, 150, 100, "falling and never was above 0.3"),
        (lambda step: 0.3, 1200, 1001, "not been above 0.3 for 1000 steps"),
        (lambda step: 1.0 + step, 3, 2, "the rate is 2 at step 2"),
    ],
)
def test_a_highest_rate_that_was_read_off_wrongly_is_spoken_of(
    factor, steps, said_at, why, caplog
) -> None:
    for lr_max in (None, 7.0):
        model, optimizer, groups = problem(torch.optim.SGD, lr=1.0, weight_decay=0.02)
        scheduler = lr_scheduler.LambdaLR(optimizer, factor)
        with ProportionalDecay(model, optimizer, groups, lr_max=lr_max):
            paced(optimizer, said_at - 1, scheduler)
            assert caplog.text == ""
            paced(optimizer, 1, scheduler)
            said = caplog.text
            caplog.clear()
            assert lr_max is not None or (why in said and "takes 1 for the highest rate" in said)
            assert lr_max is None or said == ""
            paced(optimizer, steps - said_at, scheduler)
            assert caplog.text == ""  # once


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.LinearLR(o, 1e-2, total_iters=1100),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 1100),
        lambda o: lr_scheduler.OneCycleLR(o, max_lr=3.0, total_steps=1200),
        lambda o: lr_scheduler.StepLR(o, 100, gamma=0.1),
    ],
)
def test_an_ordinary_schedule_is_no_reason_to_speak(make, caplog) -> None:
    """Whether it is made before or after."""
    decays = []
    for first in (True, False):
        model, optimizer, groups = problem(torch.optim.SGD, lr=1.0, weight_decay=0.02)
        scheduler = make(optimizer) if first else None
        ProportionalDecay(model, optimizer, groups)
        decays.append(paced(optimizer, 1100, scheduler or make(optimizer)))
    assert decays[0] == decays[1]
    assert max(decays[0]) == pytest.approx(0.02, rel=1e-2)
    assert caplog.text == ""


@pytest.mark.parametrize("scheduled", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_resumed_from_the_optimizers_state_alone(first: bool, scheduled: bool, caplog) -> None:
    """Made before or after loading; the decay is not multiplied by the rate twice."""
    model, optimizer, groups = problem(torch.optim.SGD, lr=0.1, weight_decay=0.02)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 300) if scheduled else None
    ProportionalDecay(model, optimizer, groups)
    paced(optimizer, 170, scheduler)
    if scheduler is None:
        optimizer.param_groups[0]["lr"] = 0.04
        paced(optimizer, 1)
    stored = copy.deepcopy(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] *= 0.9
    expected = paced(optimizer, 110, scheduler)

    _, again, _ = problem(torch.optim.SGD, lr=0.1, weight_decay=0.02)
    again = torch.optim.SGD(split_param_groups(model, groups, lr=0.1, weight_decay=0.02))
    if first:
        ProportionalDecay(model, again, groups)
    again.load_state_dict(stored)
    if not first:
        ProportionalDecay(model, again, groups)
    inner = None
    if scheduled:
        inner = lr_scheduler.CosineAnnealingLR(again, 300, last_epoch=169)
        # Its construction takes a step of its own; the run goes on where it was.
        for a, b in zip(again.param_groups, stored["param_groups"], strict=True):
            a["lr"] = b["lr"]
        inner.last_epoch = 170
    again.param_groups[0]["lr"] *= 0.9
    assert paced(again, 110, inner) == pytest.approx(expected, rel=1e-9)
    assert caplog.text == ""


def test_settings_of_the_state_that_was_loaded_hold_and_lr_max_beside_them() -> None:
    model, optimizer, groups = problem(torch.optim.SGD, lr=0.1, weight_decay=0.02)
    ProportionalDecay(model, optimizer, groups, lr_max=0.4)
    paced(optimizer, 1)
    for lr_max, peak in ((None, 0.4), (0.2, 0.2)):
        for first in (True, False):
            again = torch.optim.SGD(split_param_groups(model, groups, lr=1.0, weight_decay=1.0))
            if first:
                ProportionalDecay(model, again, groups, lr_max=lr_max)
            again.load_state_dict(optimizer.state_dict())
            if not first:
                ProportionalDecay(model, again, groups, lr_max=lr_max)
            assert paced(again, 1) == pytest.approx([0.02 * 0.1 / peak], rel=1e-12)


def test_param_groups_without_decay_stay_and_the_others_are_steered(caplog) -> None:
    model = nn.Sequential(
        nn.Linear(4, 4, bias=False),
        nn.LayerNorm(4),
        nn.Linear(4, 4, bias=False),
        nn.LayerNorm(4),
    )
    pieces = [Slice(name, 0, 0, 4) for name in ("0.weight", "2.weight")]
    groups = [InvariantGroup(str(p), "scale", (p,), ((p,),), 16, defect=0.0) for p in pieces]
    params = [
        {"params": model[0].parameters(), "weight_decay": 0.0},
        {"params": [p for i in (1, 2, 3) for p in model[i].parameters()]},
    ]
    split = split_param_groups(model, groups, params, lr=0.1, weight_decay=0.02)
    optimizer = torch.optim.SGD(split)
    with ProportionalDecay(model, optimizer, groups, lr_max=0.2) as decay:
        optimizer.step()
        assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 0.01, 0.02]
        assert "no weight decay to vary in param_groups [0]" in caplog.text
        kept = decay.state_dict()
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.0, 0.02, 0.02]
    assert not any("decay_lr_max" in g for g in optimizer.param_groups)
    ProportionalDecay(model, optimizer, groups).load_state_dict(kept)


def test_refusals() -> None:
    model, optimizer, groups = problem(torch.optim.SGD, lr=0.1, weight_decay=0.02)
    for bad in (0.0, -1.0, math.inf, math.nan, "1"):
        with pytest.raises(InvalidArgument, match=r"lr_max=\.\.\.\) must be (a )?finite"):
            ProportionalDecay(model, optimizer, groups, lr_max=bad)
    plain = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.02)
    with pytest.raises(InvalidArgument, match=r"param_groups\[0\] must hold scale-inv.*split"):
        ProportionalDecay(model, plain, groups)
    without = problem(torch.optim.SGD, lr=0.1)
    with pytest.raises(InvalidArgument, match=r"\['weight_decay'\] must be > 0, got 0"):
        ProportionalDecay(*without)
    still = problem(torch.optim.SGD, lr=0.0, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"is 0 and so is its initial_lr.*lr_max"):
        ProportionalDecay(*still)
    decay = ProportionalDecay(model, optimizer, groups)
    with pytest.raises(InvalidArgument, match=r"state_dict\(\) returned, with 'base'; 'base' is"):
        decay.load_state_dict({})
    with pytest.raises(AlreadyAttached, match="ProportionalDecay acts on this SGD"):
        ProportionalDecay(model, optimizer, groups)
    with pytest.raises(InvalidArgument, match=r"param groups \[0\], got \[3\]"):
        decay.load_state_dict({"base": {3: [0.1, 0.1]}})
    kept = decay.state_dict()
    decay.close()
    with pytest.raises(InvalidArgument, match=r"was closed and no longer steers.*Make a new one"):
        decay.load_state_dict(kept)


def test_a_rate_on_a_device_is_not_waited_for() -> None:
    """One without data cannot be waited for: reading it raises."""
    model, optimizer, groups = problem(torch.optim.SGD, lr=0.1, weight_decay=0.02)
    ProportionalDecay(model, optimizer, groups)
    group = optimizer.param_groups[0]
    group["lr"] = torch.tensor(0.1, device="meta")
    paced(optimizer, 1)
    group["initial_lr"] = group["lr"]
    assert [decay.device.type for decay in paced(optimizer, 2)] == ["meta"] * 2
