"""No fault, no finding: random healthy runs of every optimizer, simulated and real."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from driven_weights import leaning, products
from faulty import cosine, sgd
from motions import motions_of
from torch import nn

from spherical_motion import records
from spherical_motion.comparison.laws import (
    continuity_of,
    mend,
    radial_law_of,
    radial_pulls,
    scale_changes,
    silence,
    stale,
    step_law_of,
)
from spherical_motion.comparison.motion import Motion, motion_of
from spherical_motion.monitor import watch
from spherical_motion.vocabulary import HyperParameters, Stage
from spherical_motion.vocabulary.gram import FIELDS

CLASSES = {
    "adamw": "AdamW",
    "adam": "Adam",
    "amsgrad": "Adam",
    "radam": "RAdam",
    "nadam": "NAdam",
    "adamax": "Adamax",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
}


def findings(motions: Iterable[Motion], stages: Iterable[Stage]) -> list[object]:
    """Everything that any law finds in these groups."""
    motions = list(motions)
    found: list[object] = [*scale_changes(motions)]
    pulls = radial_pulls(motions)
    for motion, stage in zip(motions, stages, strict=True):
        continuity, law = continuity_of(motion, stage), step_law_of(motion, stage)
        quiet, radial = silence(motion, stage), radial_law_of(motion, stage, pulls=pulls)
        found += [continuity] * (continuity.written > 0)
        found += [law] * (law.failing > 0)
        found += [quiet] * ((quiet.dead_since, quiet.frozen_since) != (None, None))
        found += [radial] * (radial.hidden and motion.group.kind == "scale")
        found += [stale(motion, stage)] * (stale(motion, stage).same > 0)
        found += mend(motion, stage)
        assert law.unknown or law.median <= max(1e-5, law.allowed / 4)
    return found


@pytest.mark.parametrize("run", range(12))
def test_sgd_of_every_rule_at_rates_over_four_decades(tmp_path, run) -> None:
    rng = np.random.default_rng(run)
    nesterov = bool(run % 2)
    momentum = float(rng.choice([0.5, 0.9, 0.99])) if nesterov or run % 3 else 0.0
    dampening = 0.5 if momentum and not nesterov and run % 4 == 2 else 0.0
    lr, decay = float(10 ** rng.uniform(-3, 0)), float(10 ** rng.uniform(-5, -2))
    settings = cosine(lr, decay, momentum, 80) if run % 4 == 1 else [(lr, decay, momentum)] * 80
    values = {
        f"g{i}": sgd(
            settings,
            dtype=np.float32,
            nesterov=nesterov,
            dampening=dampening,
            along=float(rng.choice([0.0, 0.3])),
            norm0=float(10 ** rng.uniform(-1, 1.5)),
            dimension=100,
            seed=100 * run + i,
        )
        for i in range(10)
    }
    told = {"nesterov": nesterov, "dampening": dampening}
    motions = motions_of(tmp_path / "run", values, settings, optimizer=told, numel=100)
    assert findings(motions.values(), [Stage(0, 80, None)] * 10) == []


@pytest.mark.parametrize("name", CLASSES)
def test_adaptive_optimizers(tmp_path, name) -> None:
    rng = np.random.default_rng(len(name))
    steps, beta1, beta2 = 250, 0.9, float(rng.choice([0.99, 0.999]))
    momentum = {"rmsprop": 0.0, "adagrad": 0.0}.get(name, beta1)
    decay = 0.0 if name in ("rmsprop", "adagrad") else 0.05
    settings = [(float(10 ** rng.uniform(-4, -2)), decay, momentum)] * steps
    hp = HyperParameters(name, lr=settings[0][0], momentum=momentum, beta2=beta2)
    values = {}
    for i in range(10):
        gradient = leaning(i, float(rng.uniform(-0.02, 0.02)))
        gram = products(hp, settings, gradient, dimension=40, seed=i)
        values[f"g{i}"] = gram.to_array((*FIELDS, "wp"))
    told: dict[str, object] = {"class": CLASSES[name], "amsgrad": name == "amsgrad"}
    told |= {} if name in ("rmsprop", "adagrad") else {"betas": [beta1, beta2]}
    motions = motions_of(
        tmp_path / "run", values, settings, optimizer=told, numel=40, kind="plain", dtype="float64"
    )
    assert findings(motions.values(), [Stage(0, steps, None)] * 10) == []


def conv() -> nn.Module:
    layers: list[nn.Module] = []
    for inside, outside in ((1, 6), (6, 8)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 3))


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 24), nn.LayerNorm(24), nn.ReLU(), nn.Linear(24, 3)
    )


REAL = {
    "nesterov": (conv, lambda p: torch.optim.SGD(p, 0.05, 0.9, weight_decay=1e-3, nesterov=True)),
    "sgd": (perceptron, lambda p: torch.optim.SGD(p, 0.1, weight_decay=1e-3)),
    "adamw": (conv, lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.05)),
    "adam": (perceptron, lambda p: torch.optim.Adam(p, 1e-3, weight_decay=1e-3)),
    "rmsprop": (perceptron, lambda p: torch.optim.RMSprop(p, 3e-4, momentum=0.9)),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("schedule", ["cosine", "steps"])
def test_real_trainings_in_float32(tmp_path, name, schedule) -> None:
    steps = 120
    torch.manual_seed(0)
    make, optimize = REAL[name]
    model = make()
    optimizer = optimize(model.parameters())
    scheduler = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        if schedule == "cosine"
        else torch.optim.lr_scheduler.StepLR(optimizer, steps // 2, 0.1)
    )
    task = torch.randn(36, 3)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(32, 1, 6, 6, generator=generator)
    with watch(model, optimizer, x, tmp_path / "run", groups="all", quiet=True):
        for step in range(steps):
            x = torch.randn(16 if step % 2 else 48, 1, 6, 6, generator=generator)
            y = (x.flatten(1) @ task).argmax(1)
            with torch.autocast("cpu", torch.bfloat16, enabled=schedule == "cosine"):
                loss = nn.functional.cross_entropy(model(x).float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    read = records.read(tmp_path / "run")
    motions = {group: motion_of(read, i) for i, group in enumerate(read.groups)}
    for number in range(len(read.schedule(read.groups[0]).stages())):
        stages = [read.schedule(group).stages()[number] for group in motions]
        assert findings(motions.values(), stages) == []


def test_laws_say_so_where_nothing_was_recorded(tmp_path) -> None:
    values = sgd([(0.1, 1e-3, 0.9)] * 30)
    values[:] = np.nan
    motion = motions_of(tmp_path / "run", {"a": values}, [(0.1, 1e-3, 0.9)] * 30)["a"]
    stage = Stage(0, 30, None)
    assert len(motion) == 0
    assert continuity_of(motion, stage).pairs == 0
    assert step_law_of(motion, stage).unknown
    assert silence(motion, stage).samples == 0
    assert math.isnan(stale(motion, stage).share)
    assert radial_law_of(motion, stage).samples == 0
    assert mend(motion, stage) == ()
    assert scale_changes([motion]) == ()
