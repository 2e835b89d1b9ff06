"""The law of Adam, exact in float64, while a schedule changes its coefficients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched import batch, network

from spherical_motion import theory
from spherical_motion.monitor import watch
from spherical_motion.records import Records, read

STEPS = 25
OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-2),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=1e-1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=1e-2),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=1e-2, betas=(0.9, 0.99)),
}


def one_cycle(optimizer: torch.optim.Optimizer) -> object:
    """Rate and β1 change at each step."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS)


class Later:
    """β2 and ε change at every third step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.group, self.step_count = optimizer.param_groups[0], 0

    def step(self) -> None:
        self.step_count += 1
        if self.step_count % 3 == 0:
            beta1, beta2 = self.group["betas"]
            self.group["betas"] = (beta1, 1.0 - 0.9 * (1.0 - beta2))
            self.group["eps"] *= 2.0


def train(path: Path, name: str, schedule, *, missing: bool = False, **options) -> Records:
    model = network().double()
    optimizer = OPTIMIZERS[name](model.parameters())
    watching = watch(
        model, optimizer, directory=path, groups="plain", products=8, quiet=True, **options
    )
    scheduler = schedule(optimizer)
    convolution = model[0]
    assert isinstance(convolution, nn.Conv2d)
    with watching:
        for step in range(STEPS):
            x, y = batch(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x.double()), y).backward()
            if missing and step % 5 == 2:
                convolution.weight.grad = None
            optimizer.step()
            scheduler.step()
    return read(path)


def misfit(records: Records, first_step: int | None = 0) -> np.ndarray:
    """|turned - law| over the mean of turned, (steps, groups)."""
    hp = records.info.hyperparameters(0)
    sides = theory.balance_steps(
        hp,
        records.gram,
        steps=records.steps,
        lr=records.lr,
        weight_decay=records.weight_decay,
        momentum=records.momentum,
        first_step=first_step,
    )
    return np.abs(sides.turned - sides.law) / np.nanmean(np.abs(sides.turned), axis=0)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("Adam", Later), ("Adamax", one_cycle), ("amsgrad", Later)]
    + [(name, one_cycle) for name in ("Adam", "AdamW", "RAdam")],
)
def test_law_is_exact_from_the_first_step_on_while_coefficients_change(
    name: str, schedule, tmp_path: Path
) -> None:
    found = misfit(train(tmp_path, name, schedule))
    assert np.isfinite(found).all()
    assert found.max() < 1e-10


def test_law_is_exact_where_only_bursts_are_measured(tmp_path: Path) -> None:
    records = train(tmp_path, "AdamW", one_cycle, every=7, burst=3)
    found = misfit(records)
    linked = np.append(True, np.diff(records.steps) == 1)
    assert np.isfinite(found[linked]).all()
    assert found[linked].max() < 1e-10


def test_a_step_without_a_gradient_keeps_the_coefficients_of_the_one_before(tmp_path: Path) -> None:
    found = misfit(train(tmp_path, "AdamW", one_cycle, missing=True))
    assert np.isnan(found[2::5, 0]).all()
    assert np.nanmax(found) < 1e-10
