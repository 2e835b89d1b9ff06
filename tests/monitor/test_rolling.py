"""A snapshot that rolls along records what one that is copied at each step records, bit for bit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched import OPTIMIZERS, batch, network, train

from spherical_motion.comparison import compare
from spherical_motion.invariance import find_groups
from spherical_motion.measure import CpuBackend
from spherical_motion.monitor import station, watch
from spherical_motion.optim import RescaleOnDecay, Rotational
from spherical_motion.records import Records, read
from spherical_motion.vocabulary import Suspect

STEPS = 40

Between = Callable[[nn.Module, torch.optim.Optimizer, int], object]

MODES = {"rolling": CpuBackend, "copying": functools.partial(CpuBackend, rolling=False)}


def wide() -> nn.Module:
    """Matrices of thousands of entries, of which a look compares 128 words."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(40, 64), nn.LayerNorm(64), nn.Linear(64, 96), nn.LayerNorm(96)),
        nn.Linear(96, 10),
    )


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


def recorded(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    between: Between | None = None,
    make: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    **given: object,
) -> dict[str, Records]:
    """The same run with either snapshot."""
    for mode, backend in MODES.items():
        monkeypatch.setattr(station, "backend_of", backend)
        model = wide()
        optimizer = make(model)
        with watch(model, optimizer, None, directory / mode, groups="plain", quiet=True, **given):
            for step in range(STEPS):
                rng = torch.Generator().manual_seed(step)
                x, y = torch.randn(16, 40, generator=rng), torch.randint(10, (16,), generator=rng)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                if between is not None:
                    with torch.no_grad():
                        between(model, optimizer, step)
    return {mode: read(directory / mode) for mode in MODES}


def assert_identical(found: dict[str, Records]) -> None:
    rolling, copying = (found[mode].to_arrow() for mode in MODES)
    assert rolling.num_rows == copying.num_rows > 0
    for name in rolling.column_names:
        pair = [table[name].to_numpy() for table in (rolling, copying)]
        assert np.array_equal(*pair, equal_nan=pair[0].dtype.kind == "f"), name


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_healthy_runs_are_bit_identical(make, tmp_path: Path, monkeypatch) -> None:
    products = 8 if make is OPTIMIZERS["adam"] else 7
    assert_identical(recorded(tmp_path, monkeypatch, make=make, products=products))


@pytest.mark.parametrize(
    "given", [{"every": 5}, {"every": 6, "burst": 3}, {"audit": False}], ids=str
)
def test_so_are_bursts_and_runs_without_an_audit(given: dict, tmp_path: Path, monkeypatch) -> None:
    assert_identical(recorded(tmp_path, monkeypatch, **given))


def test_cells_and_the_audit_have_the_old_weights(tmp_path: Path, monkeypatch) -> None:
    runs = {}
    for mode, backend in MODES.items():
        monkeypatch.setattr(station, "backend_of", backend)
        model = network()
        optimizer = OPTIMIZERS["adamw"](model)
        with watch(model, optimizer, batch(0)[0], tmp_path / mode, cells_every=2, quiet=True):
            train(model, optimizer, 26)
        runs[mode] = read(tmp_path / mode)
    assert_identical(runs)
    audits = [runs[mode].audits for mode in MODES]
    assert len(audits[0]) == 4 * 20
    for name in ("step", "ww", "dd", "ee", "de", "miss_sq", "allowed_sq"):
        pair = [getattr(found, name) for found in audits]
        assert np.array_equal(*pair, equal_nan=True), name
    cells = [runs[mode].cells("0").gram.to_array() for mode in MODES]
    assert cells[0].shape == (13, 6, 6)
    assert np.array_equal(*cells)


def every(period: int, write: Callable[[nn.Parameter], object]) -> Between:
    """Write all parameters now and then."""

    def between(model: nn.Module, _: torch.optim.Optimizer, step: int) -> None:
        if step % period == period - 1:
            for parameter in model.parameters():
                write(parameter)

    return between


def average() -> Between:
    """An average of the weights that is copied into them every tenth step."""
    kept: list[torch.Tensor] = []

    def between(model: nn.Module, _: torch.optim.Optimizer, step: int) -> None:
        if step == 0:
            kept[:] = [p.clone() for p in model.parameters()]
        for i, p in enumerate(model.parameters()):
            kept[i].lerp_(p, 0.1)
            if step % 10 == 9:
                p.data.copy_(kept[i])

    return between


def rollback() -> Between:
    """The weights of step 10 are loaded at step 25."""
    kept: dict[str, torch.Tensor] = {}

    def between(model: nn.Module, _: torch.optim.Optimizer, step: int) -> None:
        if step == 10:
            kept.update({name: t.clone() for name, t in model.state_dict().items()})
        if step == 25:
            model.load_state_dict(kept)

    return between


def numpy_noise(p: nn.Parameter) -> None:
    p.detach().numpy()[...] += np.random.default_rng(0).normal(0, 1e-3, p.shape)


WRITES: dict[str, Between] = {
    "average copied": average(),
    "projection": every(1, lambda p: p.mul_(0.99 / (p.norm() + 1e-3))),
    "projection through data": every(1, lambda p: p.data.mul_(0.99 / (p.norm() + 1e-3))),
    "noise": every(7, lambda p: p.add_(1e-3 * torch.randn_like(p))),
    "noise through data": every(7, lambda p: p.data.add_(1e-3 * torch.randn_like(p))),
    "noise through numpy": every(7, numpy_noise),
    "rolled back": rollback(),
    "decay": every(1, lambda p: p.mul_(1 - 1e-4)),
    "decay through data": every(1, lambda p: p.data.mul_(1 - 1e-4)),
    "decay through a view": every(1, lambda p: p.view(-1).mul_(1 - 1e-4)),
    "decay of the storage": every(9, lambda p: p.set_(p.detach().mul(0.9))),
    "new data": every(9, lambda p: setattr(p, "data", 0.9 * p.data)),
    "one row": every(3, lambda p: p[:1].mul_(0.5)),
    "one entry": every(3, lambda p: p.view(-1)[5:6].mul_(0.5)),
}


@pytest.mark.parametrize("between", WRITES.values(), ids=WRITES)
def test_what_is_written_between_steps_is_named_as_with_copies(
    between: Between, tmp_path: Path, monkeypatch
) -> None:
    torch.manual_seed(1)
    found = recorded(tmp_path, monkeypatch, between)
    assert_identical(found)
    for mode in MODES:
        rows = {row.group: row.verdict.suspect for row in compare(tmp_path / mode)}
        assert rows["0"] is Suspect.WEIGHTS_WRITTEN, mode


def test_rows_written_behind_torchs_back_at_each_step_are_named(
    tmp_path: Path, monkeypatch
) -> None:
    """A look may miss them once or twice, but not at every step."""

    def bounded(model: nn.Module, _: torch.optim.Optimizer, step: int) -> None:
        weight = model[0].weight
        weight.data[:20].mul_(0.99)

    recorded(tmp_path, monkeypatch, bounded)
    for mode in MODES:
        rows = {row.group: row.verdict.suspect for row in compare(tmp_path / mode)}
        assert rows["0"] is Suspect.WEIGHTS_WRITTEN, mode


@pytest.mark.parametrize("tool", [RescaleOnDecay, Rotational])
def test_steering_tools_are_measured_as_with_copies(
    tool: type, tmp_path: Path, monkeypatch
) -> None:
    runs = {}
    for mode, backend in MODES.items():
        monkeypatch.setattr(station, "backend_of", backend)
        model = network()
        optimizer = OPTIMIZERS["momentum"](model)
        groups = find_groups(model, batch(0)[0])
        inputs = {"example_inputs": batch(0)[0]} if tool is RescaleOnDecay else {}
        steering = tool(model, optimizer, groups, **inputs)
        with watch(model, optimizer, batch(0)[0], tmp_path / mode, groups=groups, quiet=True):
            train(model, optimizer, 25)
            optimizer.param_groups[0]["lr"] *= 0.1
            train(model, optimizer, 10)
        steering.close()
        runs[mode] = read(tmp_path / mode)
    assert_identical(runs)
